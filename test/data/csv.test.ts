import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CsvDataset,
  DataLoader,
  LabelEncoder,
  MinMaxScaler,
  OneHotEncoder,
  readCsv,
  StandardScaler,
  tensor,
  zeros,
} from '../../lib/index.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-csv-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(text: string | Uint8Array, name = 'table.csv'): Promise<string> {
  const at = path.join(folder, name);
  await writeFile(at, text);
  return at;
}

const homes = `"city","beds","price","note"
"ELK GROVE",3,250000,"big, and ""new"""
GALT,2,NA,
"ELK GROVE",4,310000.5,"two
lines"
`;
const example = (name: string) => new URL(`../../examples/data/${name}`, import.meta.url).pathname;

describe('readCsv', () => {
  it('reads quoted fields, numbers, categories and text', async () => {
    for (const bytes of [homes, gzipSync(homes), `\ufeff${homes}`]) {
      const table = await readCsv(await file(bytes), {
        columns: {
          note: 'string',
          city: 'category',
          price: { type: 'number', fill: 'mean' },
          beds: 'number',
        },
      });
      expect([table.length, table.names]).toEqual([3, ['note', 'city', 'price', 'beds']]);
      expect(table.strings('note')).toEqual(['big, and "new"', '', 'two\nlines']);
      expect(table.encoder('city').classes).toEqual(['ELK GROVE', 'GALT']);
      expect([table.labels('city').dtype, table.labels('city').toArray()]).toEqual([
        'int64',
        [0, 1, 0],
      ]);
      expect(table.strings('city')[1]).toBe('GALT');
      expect([...table.numbers('price')]).toEqual([250_000, 280_000.25, 310_000.5]);
      expect(table.tensor(['beds', 'city']).toArray()).toEqual([
        [3, 0],
        [2, 1],
        [4, 0],
      ]);
      const data = table.dataset(['beds'], 'city');
      expect([data.length, data.tensors[0].shape]).toEqual([3, [3, 1]]);
    }
  });

  it('finds out what columns are, and fills by number, mean or median', async () => {
    const table = await readCsv(await file('a;b;c\n1;x;1\n2;;2\n3;y;\n4;z;10\n'), {
      delimiter: ';',
      columns: { a: 'number', c: { type: 'number', fill: 'median' } },
    });
    expect([...table.numbers('c')]).toEqual([1, 2, 2, 10]);
    const all = await readCsv(await file('a, b\n1, x\n'), { trim: true });
    expect([all.numbers('a')[0], all.strings('b')]).toEqual([1, ['x']]);
    const bare = await readCsv(await file('1,x\n2,y\n'), { header: ['n', 'name'] });
    expect([bare.names, bare.strings('name')]).toEqual([
      ['n', 'name'],
      ['x', 'y'],
    ]);
  });

  it('fills numbers by a number, the mean or the median, and by nothing else', async () => {
    const read = async (fill: unknown, text = 'a\n1\nNA\n5\n100\n') => {
      const columns = { a: { type: 'number', fill } } as never;
      return (await readCsv(await file(text), { columns })).numbers('a' as never)[1];
    };
    expect([await read(0), await read('median'), await read('mean')]).toEqual([0, 5, 106 / 3]);
    await expect(read('0')).rejects.toThrow(
      /^readCsv: fill of a must be a number or mean or median, got "0"$/,
    );
    await expect(read('zero', 'a\n1\n2\n')).rejects.toThrow(/or median, got "zero"$/);
    for (const fill of ['mean', 'median']) {
      await expect(read(fill, 'a\nNA\n?\n')).rejects.toThrow(
        `readCsv: a must have values to take the ${fill} of, got none`,
      );
    }
    expect(await read(7, 'a\nNA\nNA\n')).toBe(7);
  });

  it('says which file, line and column is wrong', async () => {
    const at = await file(homes);
    const refused = (columns: object, message: RegExp) =>
      expect(readCsv(at, { columns: columns as never })).rejects.toThrow(message);
    await refused({ rooms: 'number' }, /no column rooms, it has city, beds, price, note$/);
    await refused({ price: 'number' }, /table.csv line 3: price is missing, and .* has no fill$/);
    await refused({ city: 'number' }, /line 2: city must be a number, got "ELK GROVE"$/);
    await refused(
      { city: { type: 'category', classes: ['GALT'] } },
      /line 2: city must be one of "GALT", got "ELK GROVE"/,
    );
    await refused({ city: 'text' }, /the type of city must be one of number, category, string/);
    await expect(readCsv(await file('a,b\n1,2\n3\n'))).rejects.toThrow(
      /table.csv is damaged: Invalid Record Length: expect 2, got 1 on line 3/,
    );
    await expect(readCsv(await file('a,a\n1,2\n'))).rejects.toThrow(/differently, got a twice/);
    await expect(readCsv(await file(''))).rejects.toThrow(/first line of names, got an empty file/);
    await expect(readCsv(await file('a\n"open'))).rejects.toThrow(/is damaged: Quote Not Closed/);
    await expect(readCsv(await file(gzipSync(homes).subarray(0, 40)))).rejects.toThrow(
      /is damaged: unexpected end of file/,
    );
    await expect(readCsv(path.join(folder, 'none.csv'))).rejects.toThrow(/cannot read .*none.csv/);
    await expect(readCsv(3 as never)).rejects.toThrow(/the file must be a path, got 3/);
    const table = await readCsv(await file(homes));
    expect(() => table.numbers('beds2' as never)).toThrow(/no column "beds2", there are city/);
    expect(() => table.tensor(['city'])).toThrow(/city must be a column of numbers, got text/);
    expect(() => table.encoder('beds')).toThrow(/beds must be a category/);
    const half = await readCsv(await file('y\n0.5\n'));
    expect(() => half.labels('y')).toThrow(/y must hold whole numbers, got 0.5/);
  });

  it('reads the tables of the examples', async () => {
    const iris = await readCsv(example('iris.csv'), {
      columns: {
        sepal_length: 'number',
        sepal_width: 'number',
        petal_length: 'number',
        petal_width: 'number',
        species: 'category',
      },
    });
    const names = iris.names.slice(0, 4);
    const scaler = new StandardScaler().fit(iris.tensor(names).cast('float64'));
    // Of NumPy 1.24 on the same file.
    const mean = [5.84333333, 3.05733333, 3.758, 1.19933333];
    const std = [0.82530129, 0.43441097, 1.75940407, 0.75969263];
    mean.forEach((value, i) => {
      expect(scaler.mean[i]).toBeCloseTo(value, 6);
      expect(scaler.scale[i]).toBeCloseTo(std[i] as number, 6);
    });
    expect(iris.encoder('species').classes).toEqual(['setosa', 'versicolor', 'virginica']);
    for (const [name, rows, columns] of [
      ['wine.csv', 178, 14],
      ['breast-cancer.csv', 569, 31],
      ['sacramento-homes.csv', 932, 9],
      ['reviews-train.csv.gz', 4000, 3],
      ['reviews-test.csv.gz', 1000, 3],
    ] as const) {
      const table = await readCsv(example(name));
      expect([name, table.length, table.names.length]).toEqual([name, rows, columns]);
    }
    const reviews = await readCsv(example('reviews-test.csv.gz'), {
      columns: { score: 'category' },
    });
    const codes = [...reviews.numbers('score')];
    expect([0, 1].map((code) => codes.filter((c) => c === code).length)).toEqual([658, 342]);
  });
});

describe('CsvDataset', () => {
  it('streams rows, epoch after epoch, typed', async () => {
    const rows = Array.from({ length: 50 }, (_, i) => `${i},${i % 3 === 0 ? 'yes' : 'no'}`);
    const data = new CsvDataset(await file(`n,label\n${rows.join('\n')}\n`), {
      columns: { n: 'number', label: { type: 'category', classes: ['no', 'yes'] } },
    });
    const pairs = data
      .map(({ n, label }) => ({ x: [n, 2 * n], y: BigInt(label) }))
      .shuffle(8, { seed: 1 });
    const loader = new DataLoader(pairs, { batchSize: 20 });
    for (let epoch = 0; epoch < 2; ++epoch) {
      const seen: number[] = [];
      for await (const { x, y } of loader) {
        const labels = y.toArray() as number[];
        (x.toArray() as [number, number][]).forEach(([n, double], i) => {
          expect([double, labels[i]]).toEqual([2 * n, n % 3 === 0 ? 1 : 0]);
          seen.push(n);
        });
      }
      expect(seen.sort((a, b) => a - b)).toEqual(rows.map((_, i) => i));
    }
  });

  it('reads a file larger than its buffers in steady memory', async () => {
    const line = `${'7,'.repeat(99)}7\n`;
    const names = Array.from({ length: 100 }, (_, i) => `c${i}`);
    const big = await file(`${names.join()}\n${line.repeat(20_000)}`, 'big.csv');
    let rows = 0;
    let sum = 0;
    for await (const { c0, c99 } of new CsvDataset(big, {
      columns: { c0: 'number', c99: 'number' },
    })) {
      ++rows;
      sum += c0 + c99;
    }
    expect([rows, sum]).toEqual([20_000, 280_000]);
    const first = new CsvDataset(big, { columns: { c1: 'number' } }).take(2);
    expect(await first.toArray()).toEqual([{ c1: 7 }, { c1: 7 }]);
  });

  it('says what is wrong', async () => {
    const at = await file(homes);
    const make = (columns: object) => new CsvDataset(at, { columns: columns as never });
    await expect(make({ x: 'number' }).toArray()).rejects.toThrow(/CsvDataset: .* no column x/);
    await expect(make({ price: 'number' }).toArray()).rejects.toThrow(/line 3: price is missing/);
    expect(() => make({ city: 'category' })).toThrow(/the category city needs its classes/);
    expect(() => make({ price: { type: 'number', fill: 'mean' } })).toThrow(
      /fill of price must be a number, got "mean"/,
    );
    expect(() => new CsvDataset(at, {} as never)).toThrow(/columns must be given/);
  });
});

describe('encoders', () => {
  it('code classes and give them back', () => {
    const coder = new LabelEncoder().fit(['dog', 'cat', 'dog', 'ant']);
    expect(coder.classes).toEqual(['ant', 'cat', 'dog']);
    const codes = coder.transform(['dog', 'ant']);
    expect([codes.dtype, codes.toArray(), coder.inverse(codes)]).toEqual([
      'int64',
      [2, 0],
      ['dog', 'ant'],
    ]);
    const copy = LabelEncoder.fromJSON(JSON.parse(JSON.stringify(coder)));
    expect(copy.transform(['cat']).toArray()).toEqual([1]);
    expect(new LabelEncoder().fit(tensor([10, 9, 10])).classes).toEqual([9, 10]);
    expect(() => coder.transform(['cow'])).toThrow(
      /LabelEncoder.transform: a value must be one of "ant", "cat", "dog", got "cow"/,
    );
    expect(() => coder.inverse([3])).toThrow(/a code must be in \[0,3\), got 3/);
    expect(() => LabelEncoder.fromJSON({ kind: 'x' })).toThrow(/saved state of a LabelEncoder/);

    const hot = new OneHotEncoder({ ignoreUnknown: true }).fit(['b', 'a']);
    const rows = hot.transform(['a', 'b', 'z']);
    expect(rows.toArray()).toEqual([
      [1, 0],
      [0, 1],
      [0, 0],
    ]);
    expect(OneHotEncoder.fromJSON(JSON.parse(JSON.stringify(hot))).inverse(rows)).toEqual([
      'a',
      'b',
      'a',
    ]);
    expect(() => new OneHotEncoder().fit(['a']).transform(['b'])).toThrow(/one of "a", got "b"/);
  });

  it('scale columns as scikit-learn does', () => {
    const values = [
      [1, -2, 5],
      [2, 0, 5],
      [4, 10, 5],
    ];
    const x = tensor(values, { dtype: 'float64' });
    const near = (found: unknown, expected: number[][]) =>
      (found as number[][]).forEach((row, i) => {
        row.forEach((value, j) => {
          expect(value).toBeCloseTo(expected[i]?.[j] as number, 12);
        });
      });
    // scikit-learn 1.2.1.
    const standard = [
      [-1.0690449676496978, -0.8890008890013334, 0],
      [-0.2672612419124245, -0.508000508000762, 0],
      [1.3363062095621219, 1.3970013970020956, 0],
    ];
    const scaler = new StandardScaler().fit(x);
    near(scaler.transform(x).toArray(), standard);
    near(scaler.inverse(scaler.transform(x)).toArray(), values);
    const parts = new StandardScaler().partialFit(x.slice(0, 0, 1)).partialFit(x.slice(0, 1, 3));
    near(
      StandardScaler.fromJSON(JSON.parse(JSON.stringify(parts)))
        .transform(x)
        .toArray(),
      standard,
    );
    const ranged = new MinMaxScaler({ range: [-1, 1] }).fit(x);
    near(ranged.transform(x).toArray(), [
      [-1, -1, -1],
      [-1 / 3, -2 / 3, -1],
      [1, 1, -1],
    ]);
    near(ranged.inverse(ranged.transform(x)).toArray(), values);
    const copy = MinMaxScaler.fromJSON(JSON.parse(JSON.stringify(ranged)));
    near(copy.transform(tensor([[7, -2, 6]], { dtype: 'float64' })).toArray(), [[3, -1, 1]]);
    expect(() => scaler.transform(zeros([2, 2]))).toThrow(/float tensor \[N,3\], got a tensor/);
    expect(() => new StandardScaler().transform(x)).toThrow(/needs a call of fit first/);
    expect(() => new MinMaxScaler({ range: [1, 1] })).toThrow(/range must be \[low,high\], got/);
  });
});
