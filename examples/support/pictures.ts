/** Class folders of two kinds of pictures, for cats-dogs and custom-loop: real ones, or digits. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Dataset, ImageFolder, Subset, type Tensor } from 'nodegrad';
import { writeDigits } from './digits.js';
import { count, positive, text } from './flags.js';

/** The flags that {@link openPictures} reads. */
export const pictureFlags = {
  size: positive(150, 'height and width that pictures are resized to'),
  crop: count(0, 'augment: mirror at random, and cut out of pictures so many pixels larger'),
  keep: count(1, 'keep decoded pictures in memory; 0 decodes them anew in each epoch'),
  skip: count(0, '1 leaves out broken files with a warning; 0 ends the run'),
  data: text(undefined, 'folder of pictures, in folders by class'),
  digits: positive(200, 'pictures per class that are written without --data; half as many to test'),
};
type Given = { [Name in keyof typeof pictureFlags]: (typeof pictureFlags)[Name]['value'] };

type Pictures = Dataset<[Tensor, Tensor]>;
interface Parts {
  train: Pictures;
  test: Pictures;
  classes: readonly string[];
}

/** The first 80% by name of each class to train on, the rest to test on. */
function divided(changed: ImageFolder, plain: ImageFolder): Parts {
  const { labels, classes } = plain;
  const ends = classes.map((_, c) => {
    const first = labels.indexOf(c);
    return first + Math.floor(0.8 * (labels.lastIndexOf(c) + 1 - first));
  });
  const numbers = labels.map((_, i) => i);
  const isFirst = (i: number) => i < (ends[labels[i] as number] as number);
  const rest = numbers.filter((i) => !isFirst(i));
  const train = new Subset(changed, numbers.filter(isFirst));
  return { train, test: new Subset(plain, rest), classes };
}

/**
 * Pictures of two classes from `train` and `test` in a folder, each with a folder per class; or from a
 * folder of two classes. Without a folder, threes and eights of MNIST are written until the run ends.
 */
export async function openPictures(flags: Given): Promise<Parts> {
  let dir = flags.data;
  if (dir === undefined) {
    const made = mkdtempSync(path.join(tmpdir(), 'nodegrad-digits-'));
    process.on('exit', () => rmSync(made, { recursive: true }));
    await writeDigits(made, flags.digits);
    console.log(`no --data: threes and eights of MNIST, written as pictures to ${made}`);
    dir = made;
  }
  const open = (folder: string, crop = 0) =>
    new ImageFolder(folder, {
      ...{ size: flags.size, interpolation: 'nearest', cache: flags.keep > 0 },
      onError: flags.skip > 0 ? 'skip' : 'throw',
      ...(crop > 0 && { augment: { flip: true, crop } }),
    });
  let parts: Parts;
  if (existsSync(path.join(dir, 'train'))) {
    const train = open(path.join(dir, 'train'), flags.crop);
    parts = { train, test: open(path.join(dir, 'test')), classes: train.classes };
  } else {
    parts = divided(open(dir, flags.crop), open(dir));
  }
  const { train, test, classes } = parts;
  if (classes.length !== 2) throw new Error(`${dir} must have two classes, got ${classes}`);
  console.log(`${train.length} pictures of ${classes.join(' and ')}, ${test.length} to test on`);
  return parts;
}
