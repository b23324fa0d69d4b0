import { afterEach, describe, expect, it } from 'vitest';
import { logSigmoid, memory, ones, scope, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { collectGarbage } from '../support/garbage.js';

describe.each(devices)('memory on %s', (device) => {
  afterEach(() => memory.setLimit(0, device));

  it('counts what is held and reuses what was released', () => {
    const start = memory.stats(device);
    scope(() => {
      for (let i = 0; i < 3; ++i) ones([1000], { device });
      const { allocated, blocks } = memory.stats(device);
      expect(blocks - start.blocks).toBe(3);
      expect(allocated - start.allocated).toBeGreaterThanOrEqual(12_000);
    });
    expect(memory.stats(device).blocks).toBe(start.blocks);
    const calls = memory.stats(device).driverCalls;
    scope(() => {
      for (let i = 0; i < 3; ++i) ones([1000], { device });
    });
    expect(memory.stats(device).driverCalls).toBe(calls);
    memory.emptyCache(device);
    expect(memory.stats(device).reserved).toBe(memory.stats(device).allocated);
  });

  it('says what was asked, what is held and by whom when memory runs out', () => {
    const held = zeros([1 << 16], { device });
    memory.setLimit(memory.stats(device).reserved + (1 << 20), device);
    expect(() => ones([1 << 20], { device })).toThrow(
      /full: out of memory on \w+(:\d)?: asked for 4194304 bytes, \d+ held by \d+ tensors \(.*full \d+.*\), limit \d+/,
    );
    const wide = held.select(0, 0).expand([1 << 20]);
    expect(() => logSigmoid(wide)).toThrow(/^logSigmoid: out of memory on /);
    expect(held.sum().item()).toBe(0);
    memory.setLimit(0, device);
    expect(ones([1 << 20], { device }).size).toBe(1 << 20);
  });

  it('gives cached blocks back before it gives up', () => {
    memory.emptyCache(device);
    const room = 8 << 20;
    memory.setLimit(memory.stats(device).reserved + room, device);
    scope(() => void ones([1 << 20], { device }));
    scope(() => void ones([3 << 18, 2], { device }));
    expect(memory.stats(device).reserved).toBeLessThanOrEqual(memory.stats(device).limit);
  });

  it('refuses impossible sizes', () => {
    expect(() => zeros([2 ** 40, 2 ** 40], { device })).toThrow(/full: too many elements/);
    expect(() => zeros([-1], { device })).toThrow(/full: sizes must not be negative, got -1/);
  });

  it('frees what only the garbage collector can find', async () => {
    const start = memory.stats(device).blocks;
    (() => {
      for (let i = 0; i < 20; ++i) ones([100], { device });
    })();
    for (let i = 0; i < 20 && memory.stats(device).blocks > start; ++i) {
      await collectGarbage();
    }
    expect(memory.stats(device).blocks).toBeLessThanOrEqual(start + 1);
  });
});

// Every device has the same allocator; the CPU is quick with large tensors.
describe('large blocks', () => {
  it('cuts large blocks to requests, and joins the parts again', () => {
    const megabytes = (count: number): void => void ones([count << 18], { device: 'cpu' });
    memory.emptyCache('cpu');
    const { reserved, driverCalls } = memory.stats('cpu');
    scope(() => megabytes(24));
    for (const sizes of [[4, 12, 6], [24], [8, 16], [22]]) {
      scope(() => sizes.forEach(megabytes));
      expect(memory.stats('cpu').driverCalls).toBe(driverCalls + 1);
    }
    // Of two blocks that are free, neither has room: they make way.
    scope(() => [40, 40].forEach(megabytes));
    scope(() => megabytes(70));
    expect(memory.stats('cpu').reserved - reserved).toBeLessThanOrEqual(96 << 20);
    memory.emptyCache('cpu');
    expect(memory.stats('cpu').reserved).toBe(reserved);
  });

  it('holds no more for batches of many sizes than for the largest', () => {
    const weight = ones([256, 256], { device: 'cpu' });
    const step = (rows: number): void => {
      scope(() => {
        const x = ones([rows, 256], { device: 'cpu' });
        x.matmul(weight).relu().matmul(weight).sum();
      });
    };
    memory.emptyCache('cpu');
    const start = memory.stats('cpu').reserved;
    step(8192);
    const largest = memory.stats('cpu').reserved - start;
    memory.emptyCache('cpu');
    for (const rows of [5, 2, 8, 3, 7, 1, 4, 6, 8]) step(1024 * rows);
    expect(memory.stats('cpu').reserved - start).toBeLessThanOrEqual(1.3 * largest);
    const { driverCalls } = memory.stats('cpu');
    for (const rows of [1, 3, 5, 7, 2, 4, 6, 8]) step(1024 * rows);
    expect(memory.stats('cpu').driverCalls).toBe(driverCalls);
  });
});
