/** Small pictures as SVG text that stands alone: curves, and matrices as shades. */
import { describe, expectOptions } from '../check.js';

/** A curve: a name, and as many x as y; points that are not finite, or beyond 1e300, are left out. */
export interface Series {
  name: string;
  x: readonly number[];
  y: readonly number[];
}

export interface LinePlotOptions {
  series: readonly Series[];
  title?: string;
  xLabel?: string;
  yLabel?: string;
}

const [width, height] = [640, 400];
const box = { left: 64, right: 16, top: 32, bottom: 48 };
// Okabe and Ito's colors, which the color-blind can tell apart.
const colors = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

function escaped(text: unknown): string {
  return String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

function text(x: number, y: number, content: unknown, more = ''): string {
  return `<text x="${round(x)}" y="${round(y)}" ${more}>${escaped(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function document(w: number, h: number, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}"`,
    ' font-family="sans-serif" font-size="12">',
    `<rect width="${w}" height="${h}" fill="#fff"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

const drawable = (value: number): boolean => Math.abs(value) < 1e300;

/** From the least to the largest of values; where ticks could not tell these apart, wider. */
function rangeOf(values: readonly number[]): [number, number] {
  const low = values.reduce((a, b) => Math.min(a, b), values[0] ?? 0);
  const high = values.reduce((a, b) => Math.max(a, b), values[0] ?? 1);
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low > 1e-11 * size + 1e-300) return [low, high];
  const half = size > 1e-300 ? size / 2 : 0.5;
  return [low - half, high + half];
}

/** About five round numbers that cover a range. */
function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((n) => n * power >= rough) as number) * power;
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(14)));
}

/** Curves with axes and a legend. */
export function linePlot(options: LinePlotOptions): string {
  const {
    series,
    title = '',
    xLabel = '',
    yLabel = '',
  } = expectOptions('linePlot', options, ['series', 'title', 'xLabel', 'yLabel']);
  if (!Array.isArray(series)) {
    throw new TypeError(`linePlot: series must be an array, got ${describe(series)}`);
  }
  const curves = (series as readonly Series[]).map(({ name, x, y }) => {
    if (x?.length !== y?.length) {
      throw new RangeError(
        `linePlot: x and y of ${name} must be as long, got ${x?.length} and ${y?.length}`,
      );
    }
    const points = x.map((at, i) => [at, y[i] as number] as const);
    return { name, points: points.filter((point) => point.every(drawable)) };
  });
  const all = curves.flatMap(({ points }) => points);
  const [xs, ys] = [rangeOf(all.map(([x]) => x)), rangeOf(all.map(([, y]) => y))];
  const [w, h] = [width - box.left - box.right, height - box.top - box.bottom];
  const toX = (value: number): number => box.left + ((value - xs[0]) / (xs[1] - xs[0])) * w;
  const toY = (value: number): number => box.top + h - ((value - ys[0]) / (ys[1] - ys[0])) * h;
  const middle = 'text-anchor="middle"';
  const parts = [
    text(width / 2, 20, title, `${middle} font-size="14"`),
    text(box.left + w / 2, height - 10, xLabel, middle),
    text(14, box.top + h / 2, yLabel, `${middle} transform="rotate(-90 14 ${box.top + h / 2})"`),
  ];
  for (const tick of ticks(...ys)) {
    const y = round(toY(tick));
    parts.push(`<path d="M${box.left} ${y}h${w}" stroke="#ddd"/>`);
    parts.push(text(box.left - 6, y + 4, tick, 'text-anchor="end"'));
  }
  for (const tick of ticks(...xs)) {
    parts.push(text(toX(tick), box.top + h + 18, tick, middle));
  }
  parts.push(`<path d="M${box.left} ${box.top}v${h}h${w}" fill="none" stroke="#333"/>`);
  for (const [i, { name, points }] of curves.entries()) {
    const color = colors[i % colors.length] as string;
    const path = points.map(([x, y]) => `${round(toX(x))},${round(toY(y))}`).join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>`);
    const [x, y] = [box.left + w - 8, box.top + 16 + 16 * i];
    parts.push(text(x, y, name, `text-anchor="end" fill="${color}"`));
  }
  return document(width, height, parts);
}

export interface MatrixPlotOptions {
  title?: string;
  /** Of rows and columns; their numbers where left out. */
  rowLabels?: readonly string[];
  columnLabels?: readonly string[];
  xLabel?: string;
  yLabel?: string;
  /** Whether each cell shows its number; true for at most 20 rows and columns. */
  numbers?: boolean;
}

/** A matrix as shades, dark for large: confusion matrices, attention maps. */
export function matrixPlot(
  matrix: readonly (readonly number[])[],
  options: MatrixPlotOptions = {},
): string {
  const {
    title = '',
    xLabel = '',
    yLabel = '',
    ...given
  } = expectOptions('matrixPlot', options, [
    'title',
    'rowLabels',
    'columnLabels',
    'xLabel',
    'yLabel',
    'numbers',
  ]);
  const columns = matrix?.[0]?.length ?? 0;
  if (!Array.isArray(matrix) || columns === 0 || matrix.some((row) => row?.length !== columns)) {
    throw new TypeError(`matrixPlot: needs rows of equal length, got ${describe(matrix)}`);
  }
  const rows = matrix.length;
  const { numbers = rows <= 20 && columns <= 20 } = given;
  const cell = Math.max(4, Math.min(40, Math.floor(480 / Math.max(rows, columns))));
  const values = matrix.flat().filter(Number.isFinite);
  const [low, high] = [
    values.reduce((a, b) => Math.min(a, b), 0),
    values.reduce((a, b) => Math.max(a, b), 0),
  ];
  const [left, top] = [96, 48];
  const [w, h] = [left + columns * cell + 24, top + rows * cell + 64];
  const middle = 'text-anchor="middle"';
  const parts = [
    text(w / 2, 20, title, `${middle} font-size="14"`),
    text(left + (columns * cell) / 2, h - 12, xLabel, middle),
    text(
      14,
      top + (rows * cell) / 2,
      yLabel,
      `${middle} transform="rotate(-90 14 ${top + (rows * cell) / 2})"`,
    ),
  ];
  const every = Math.ceil(16 / cell);
  for (const [r, row] of matrix.entries()) {
    const y = top + r * cell;
    if (r % every === 0) {
      parts.push(text(left - 6, y + cell / 2 + 4, given.rowLabels?.[r] ?? r, 'text-anchor="end"'));
    }
    for (const [c, value] of row.entries()) {
      const part = high > low && Number.isFinite(value) ? (value - low) / (high - low) : 0;
      const [red, green, blue] = [247, 251, 255].map((from, i) =>
        Math.round(from + part * (([8, 48, 107][i] as number) - from)),
      );
      const x = left + c * cell;
      parts.push(
        `<rect x="${x}" y="${y}" width="${cell}" height="${cell}" fill="rgb(${red},${green},${blue})"/>`,
      );
      if (numbers) {
        const shown = Number.isInteger(value) ? value : Number(value.toPrecision(2));
        const ink = part > 0.5 ? '#fff' : '#000';
        parts.push(text(x + cell / 2, y + cell / 2 + 4, shown, `${middle} fill="${ink}"`));
      }
    }
  }
  for (let c = 0; c < columns; c += every) {
    parts.push(
      text(
        left + c * cell + cell / 2,
        top + rows * cell + 16,
        given.columnLabels?.[c] ?? c,
        middle,
      ),
    );
  }
  return document(w, h, parts);
}
