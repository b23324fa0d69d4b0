/** A process that takes the lock of each file it is told, and tells how that went. */
import { rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { withLock } from '../../lib/io/lock.js';

process.on('message', async (file: string) => {
  try {
    await withLock(file, AbortSignal.timeout(30_000), async () => {
      await writeFile(`${file}.inside`, '', { flag: 'wx' }); // fails where another is inside
      await sleep(Math.random() * 3);
      await rm(`${file}.inside`);
    });
    process.send?.('done');
  } catch (error) {
    process.send?.(String(error));
  }
});
process.send?.('ready');
