import { describe, expect, it } from 'vitest';
import { describeSector, initialBytes, SectorModel, SectorReader, writeBytes } from './oracle.ts';

/** Possible contents of sector 0 at a position, one word each. */
function allowed(model: SectorModel, position: number): string[] {
  return model
    .at(position)
    .allowed(0)
    .map((content) => (content.kind === 'write' ? `write ${content.number}` : content.kind))
    .sort();
}

const ONE = { sector: 0, count: 1 };

describe('a sector after a cut', () => {
  it('may hold anything that was issued since the last flush', () => {
    const model = new SectorModel(4, () => true);
    expect(allowed(model, 0)).toEqual(['initial']);
    model.end(model.begin({ kind: 'write', ...ONE }, 10), 11);
    model.end(model.begin({ kind: 'zero', ...ONE }, 12), 13);
    expect(allowed(model, 12)).toEqual(['initial', 'write 1']);
    expect(allowed(model, 20)).toEqual(['initial', 'write 1', 'zero']);
  });

  it('holds what a completed flush covered', () => {
    const model = new SectorModel(4);
    model.end(model.begin({ kind: 'write', ...ONE }, 10), 11);
    const flush = model.beginFlush(20);
    model.end(model.begin({ kind: 'write', ...ONE }, 21), 22);
    model.endFlush(flush, 30);
    expect(allowed(model, 30)).toEqual(['write 1', 'write 2', 'zero']);
    // Write 2 began after the flush did.
    expect(allowed(model, 31)).toEqual(['write 1', 'write 2']);
  });

  it('is not decided by a flush that began before the write ended', () => {
    const model = new SectorModel(4);
    const write = model.begin({ kind: 'write', ...ONE }, 10);
    const flush = model.beginFlush(11);
    model.end(write, 12);
    model.endFlush(flush, 13);
    expect(allowed(model, 20)).toEqual(['write 1', 'zero']);
  });

  it('may hold either of two writes that overlapped, and only the later of two that did not', () => {
    const model = new SectorModel(4);
    const [one, other] = [model.begin({ kind: 'write', ...ONE }, 1), model.begin({ kind: 'write', ...ONE }, 2)];
    model.end(one, 3);
    model.end(other, 4);
    model.endFlush(model.beginFlush(5), 6);
    expect(allowed(model, 7)).toEqual(['write 1', 'write 2']);
    model.end(model.begin({ kind: 'write', ...ONE }, 8), 9);
    model.endFlush(model.beginFlush(10), 11);
    expect(allowed(model, 12)).toEqual(['write 3']);
  });

  it('keeps its content or reads zero after a discard', () => {
    const model = new SectorModel(4, () => true);
    model.end(model.begin({ kind: 'discard', ...ONE }, 1), 2);
    model.endFlush(model.beginFlush(3), 4);
    expect(allowed(model, 5)).toEqual(['initial', 'zero']);
  });

  it('may hold a failed write for ever', () => {
    const model = new SectorModel(4);
    model.begin({ kind: 'write', ...ONE }, 1);
    model.endFlush(model.beginFlush(3), 4);
    expect(allowed(model, 5)).toEqual(['write 1', 'zero']);
  });
});

describe('verifying', () => {
  it('accepts allowed contents in full and names everything else', () => {
    const model = new SectorModel(4, (sector) => sector === 3);
    const write = model.begin({ kind: 'write', sector: 0, count: 2 }, 1);
    model.end(write, 2);
    const allowedContents = model.at(3);
    const bytes = new Uint8Array(2048);
    bytes.set(writeBytes(write));
    bytes.set(initialBytes(3, 1), 1536);
    expect(allowedContents.verify(bytes)).toEqual([]);

    bytes.copyWithin(1024, 512, 1024);
    expect(allowedContents.verify(bytes)).toEqual([{ sector: 2, found: 'write 1, sector 1', allowed: 'zeroes' }]);
    bytes.fill(0, 1024, 1536);
    bytes.fill(0, 256, 512);
    expect(allowedContents.verify(bytes)).toEqual([
      { sector: 0, found: 'write 1, sector 0 | zeroes', allowed: 'zeroes or write 1' },
    ]);
    bytes.fill(0, 0, 512);
    bytes.fill(0xee, 1536, 2048);
    const unknown = 'unknown bytes eeeeeeee eeeeeeee eeeeeeee eeeeeeee';
    expect(allowedContents.verify(bytes)).toEqual([{ sector: 3, found: unknown, allowed: 'initial content' }]);
  });

  it('sees a single wrong byte in zeroes', () => {
    const bytes = new Uint8Array(512);
    bytes[511] = 1;
    expect(new SectorModel(1).at(0).verify(bytes)).toHaveLength(1);
  });

  it('names what it finds', () => {
    expect(describeSector(new Uint8Array(512))).toBe('zeroes');
    expect(describeSector(initialBytes(12, 1))).toBe('initial content of sector 12');
  });
});

describe('a reader of many disks', () => {
  it('finds what differs from the last disk, far behind its start too, and what is back again', () => {
    const sectors = 100;
    const contents = new SectorModel(sectors, () => true).at(0);
    const reader = new SectorReader();
    const sound = initialBytes(0, sectors);
    const moved = sound.slice();
    moved.set(initialBytes(98, 1), 99 * 512);
    const torn = sound.slice();
    torn[70 * 512 + 511] = 1;
    const found = [sound, moved, torn, sound, moved.subarray(0, 512), torn].map((bytes) =>
      contents.verify(bytes, 8, reader).map(({ sector }) => sector),
    );
    expect(found).toEqual([[], [99], [70], [], [1], [70]]);
  });
});
