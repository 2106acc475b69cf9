import { describe, expect, it } from 'vitest';
import { BlobStorage } from './blob.ts';

const blob = new Blob([Uint8Array.from({ length: 1000 }, (_, index) => index & 0xff)]);

describe('BlobStorage', () => {
  it('reads pieces, also into lists', async () => {
    const storage = new BlobStorage(blob, 'disk.vdi');
    expect([storage.size, storage.label]).toEqual([1000, 'disk.vdi']);
    const parts = [new Uint8Array(2), new Uint8Array(0), new Uint8Array(3)];
    await storage.read(250, parts);
    expect(parts.map((part) => [...part])).toEqual([[250, 251], [], [252, 253, 254]]);
    await storage.read(1000, new Uint8Array(0));
    expect(storage.extentAt(7)).toEqual({ start: 0, end: 1000, data: true });
  });

  it('refuses what lies behind the end, changes, and use after closing', async () => {
    const storage = new BlobStorage(blob);
    await expect(storage.read(999, new Uint8Array(2))).rejects.toMatchObject({ kind: 'out-of-bounds' });
    await expect(storage.write()).rejects.toMatchObject({ kind: 'read-only' });
    await expect(storage.zero()).rejects.toMatchObject({ kind: 'read-only' });
    await expect(storage.resize()).rejects.toMatchObject({ kind: 'read-only' });
    await storage.close();
    await storage.close();
    await expect(storage.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
  });

  it('knows the same blob again', async () => {
    const first = await new BlobStorage(blob).identity();
    expect((await new BlobStorage(blob).identity()).key).toBe(first.key);
    expect((await new BlobStorage(new Blob(['x'])).identity()).key).not.toBe(first.key);
  });

  it('takes name and time from a file', async () => {
    const storage = new BlobStorage(new File(['abc'], 'chosen.vdi', { lastModified: 1234 }));
    expect(storage.label).toBe('chosen.vdi');
    expect((await storage.identity()).modifiedMs).toBe(1234);
  });

  it('says so when the file behind it went away', async () => {
    const gone = { size: 10, slice: () => ({ arrayBuffer: () => Promise.reject(new Error('NotReadableError')) }) };
    const storage = new BlobStorage(gone as unknown as Blob);
    await expect(storage.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io', context: { path: 'blob' } });
  });
});
