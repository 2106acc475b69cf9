/** Partition tables that sfdisk made, and what it says of them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findPeer, PEERS } from '../../scripts/peers.mjs';
import { openDisk } from '../../src/operations/open.ts';
import { listPartitions } from '../../src/vfs/partitions/index.ts';
import { describeWithPeers } from './peers.ts';

describeWithPeers(['sfdisk'], 'sfdisk', (sfdisk) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vdkit-sfdisk-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** It takes the table from its standard input. */
  function make(name: string, script: string): string {
    const file = join(folder, name);
    writeFileSync(file, '');
    truncateSync(file, 256 * 2 ** 20);
    const peer = PEERS.find((one: { name: string }) => one.name === 'sfdisk');
    const path = peer === undefined ? null : findPeer(peer);
    const { status, stderr } = spawnSync(path ?? 'sfdisk', ['--quiet', file], { input: script, encoding: 'utf8' });
    expect([status, stderr.includes('error')]).toEqual([0, false]);
    return file;
  }

  it.each([
    ['mbr', 'label: dos\nlabel-id: 0x1234abcd\n,10M,83,*\n,20M,82\n,,E\n,30M,83\n,5M,7\n,,b\n'],
    ['mbr', 'label: dos\nstart=2048,size=4096,type=c\nstart=99999,size=1,type=ef\n'],
    [
      'gpt',
      'label: gpt\n,10M,U,\n,20M,S\nsize=5M,name="a name, ä",attrs="RequiredPartition,LegacyBIOSBootable,GUID:63"\n,,L\n',
    ],
    ['gpt', 'label: gpt\ntable-length: 12\nlast-lba: 400000\n12 : start=2048,size=8,type=V\n3 : start=4096,size=1M\n'],
  ])('made a %s table, and we see the same in it: %j', async (kind, script) => {
    const file = make(`${kind}.raw`, script);
    const { partitiontable } = JSON.parse(await sfdisk.run('--json', file));
    await using disk = await openDisk(file);
    const table = await listPartitions(disk);
    expect(table).toMatchObject({ kind, warnings: [], sectorSize: partitiontable.sectorsize });
    expect(table.diskId?.toLowerCase()).toBe(partitiontable.id.toLowerCase());
    const theirs = partitiontable.partitions.map((one: Record<string, string | number>) => ({
      number: Number(/(\d+)$/.exec(String(one['node']))?.[1]),
      offset: Number(one['start']) * 512,
      length: Number(one['size']) * 512,
      type: String(one['type']).toLowerCase(),
      name: one['name'] ?? null,
      guid: one['uuid'] === undefined || kind === 'mbr' ? null : String(one['uuid']).toLowerCase(),
    }));
    const ours = table.partitions.map(({ number, offset, length, type, name, guid }) => ({
      number,
      offset,
      length,
      type: type.replace(/^0x0?/, ''),
      name,
      guid,
    }));
    expect(ours).toEqual(theirs.sort((a: { number: number }, b: { number: number }) => a.number - b.number));
    if (script.includes('attrs')) {
      expect(table.partitions[2]?.flags).toEqual(['required', 'legacy-boot', 'attribute-63']);
    }
    if (script.includes('*')) expect(table.partitions[0]?.flags).toEqual(['active']);
  });
});
