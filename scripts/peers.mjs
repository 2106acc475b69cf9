/** Other programs that the tests compare vdkit with. The list itself is `test/peers/peers.json`. */
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * @typedef {object} Peer
 * @property {string} name What tests call it.
 * @property {string[]} commands Program names, the preferred one first.
 * @property {string} debianPackage Where Debian has it.
 */

/** @type {Peer[]} */
export const PEERS = JSON.parse(readFileSync(new URL('../test/peers/peers.json', import.meta.url), 'utf8'));

/**
 * The program's path, or null when it is not installed.
 * @param {Peer} peer
 * @returns {string | null}
 */
export function findPeer(peer) {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const command of peer.commands) {
    for (const folder of folders) {
      for (const ending of process.platform === 'win32' ? ['.exe'] : ['']) {
        const path = join(folder, command + ending);
        if (existsSync(path)) return path;
      }
    }
  }
  return null;
}

/**
 * Advice on a missing program.
 * @param {Peer} peer
 * @returns {string}
 */
export function installHint(peer) {
  return `Debian: apt-get install ${peer.debianPackage}`;
}

/** @returns {Peer[]} */
export function missingPeers() {
  return PEERS.filter((peer) => findPeer(peer) === null);
}
