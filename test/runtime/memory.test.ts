import { afterEach, describe, expect, it } from 'vitest';
import { memory, ones, scope, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';

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
      global.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(memory.stats(device).blocks).toBeLessThanOrEqual(start + 1);
  });
});
