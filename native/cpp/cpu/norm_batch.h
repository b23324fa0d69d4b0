// Batch norm over the channels of [samples, channels, inner]; part of norm.cc.
//
// A pass for the moments (blocks in the cache, joined as Chan's), a launch that joins the chunks
// and updates what is kept, a pass for the result; backward the same with Σ dy and Σ dy·x̂. Cost: x
// is read twice and y written; backward reads x and dy twice. Bound by bandwidth.
#pragma once

#include "core/backend.h"
#include "cpu/norm_blocks.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTile = 128;  // columns that are summed together

struct BatchArgs {
  Elements x, dy, out;  // out: y, or dx
  const void* weight;
  const void* bias;
  void* mean;
  void* rstd;
  double* partials;  // [blocks, channels, 2]
  void* dweight;
  void* dbias;
  void* running_mean;
  void* running_variance;
  int64_t* batches;
  double eps, momentum;
  int64_t samples, channels, inner;
  int64_t samples_per_block, blocks;  // of sums over samples
  int64_t channels_per_chunk, channel_chunks;
  int64_t units_per_chunk;  // of elementwise passes: samples, or samples · channels
  bool fixed;
};

// The moments of columns of [samples, channels]: a tile of a few rows at a time, twice.
template <class T>
void column_moments(const BatchArgs& a, int64_t first, int64_t last, int64_t column, int64_t n,
                    Moments* moments) {
  alignas(64) T values[kTile], sums[kTile], means[kTile], rest[kTile];
  for (int64_t from = first; from < last; from += kFlushRows) {
    const int64_t to = min_of(last, from + kFlushRows);
    for (int64_t c = 0; c < n; ++c) sums[c] = T(0);
    for (int64_t r = from; r < to; ++r) {
      const T* x = read(a.x, r * a.channels + column, n, values);
      for (int64_t c = 0; c < n; ++c) sums[c] += x[c];
    }
    const T count = static_cast<T>(to - from);
    for (int64_t c = 0; c < n; ++c) {
      means[c] = sums[c] / count;
      sums[c] = rest[c] = T(0);
    }
    for (int64_t r = from; r < to; ++r) {
      const T* x = read(a.x, r * a.channels + column, n, values);
      for (int64_t c = 0; c < n; ++c) {
        const T distance = x[c] - means[c];
        rest[c] += distance;
        sums[c] += distance * distance;
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      // What the rounded sums left out of the mean.
      const double missing = static_cast<double>(rest[c]) / static_cast<double>(count);
      join(moments[c],
           {static_cast<double>(count), static_cast<double>(means[c]) + missing,
            static_cast<double>(sums[c]) - static_cast<double>(count) * missing * missing});
    }
  }
}

// Calls f(offset of the first run, length of a run, runs) over one channel's elements in samples
// first … last - 1; a call covers at most kBlock elements, runs lie channels · inner apart.
template <class F>
void for_channel(const BatchArgs& a, int64_t channel, int64_t first, int64_t last, const F& f) {
  const int64_t together = max_of(1, kBlock / max_of(1, a.inner));
  for (int64_t s = first; s < last; s += together) {
    const int64_t count = min_of(together, last - s);
    const int64_t at = (s * a.channels + channel) * a.inner;
    for (int64_t i = 0; i < a.inner; i += kBlock) f(at + i, min_of(kBlock, a.inner - i), count);
  }
}

template <class T>
void batch_moments_kernel(const void* raw, int64_t chunk) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  const int64_t block = chunk / a.channel_chunks;
  const int64_t c0 = chunk % a.channel_chunks * a.channels_per_chunk;
  const int64_t c1 = min_of(a.channels, c0 + a.channels_per_chunk);
  const int64_t first = block * a.samples_per_block;
  const int64_t last = min_of(a.samples, first + a.samples_per_block);
  double* partial = a.partials + block * a.channels * 2;
  Moments moments[kTile];
  for (int64_t c = c0; c < c1; c += kTile) {
    const int64_t n = min_of(kTile, c1 - c);
    for (int64_t k = 0; k < n; ++k) moments[k] = {0, 0, 0};
    if (a.inner == 1) {
      column_moments<T>(a, first, last, c, n, moments);
    } else {
      alignas(64) T values[kBlock];
      for (int64_t k = 0; k < n; ++k) {
        for_channel(a, c + k, first, last, [&](int64_t at, int64_t length, int64_t count) {
          const T* x = read_runs(a.x, at, length, a.channels * a.inner, count, values);
          const int64_t size = length * count;
          const T mean = static_cast<T>(sum(x, size) / static_cast<double>(size));
          join(moments[k], {static_cast<double>(size), static_cast<double>(mean),
                            sum_of_squares(x, mean, size)});
        });
      }
    }
    for (int64_t k = 0; k < n; ++k) {
      partial[2 * (c + k)] = moments[k].mean;
      partial[2 * (c + k) + 1] = moments[k].squares;
    }
  }
}

template <class T>
void join_moments_kernel(const void* raw, int64_t) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  double momentum = a.momentum;
  if (a.batches) {
    *a.batches += 1;
    if (momentum < 0) momentum = 1.0 / static_cast<double>(*a.batches);
  }
  for (int64_t c = 0; c < a.channels; ++c) {
    Moments all = {0, 0, 0};
    for (int64_t b = 0; b < a.blocks; ++b) {
      const int64_t samples = min_of(a.samples_per_block, a.samples - b * a.samples_per_block);
      const double* partial = a.partials + (b * a.channels + c) * 2;
      join(all, {static_cast<double>(samples * a.inner), partial[0], partial[1]});
    }
    const double variance = all.squares / all.n;
    static_cast<T*>(a.mean)[c] = static_cast<T>(all.mean);
    static_cast<T*>(a.rstd)[c] = static_cast<T>(1.0 / __builtin_sqrt(variance + a.eps));
    if (!a.running_mean) continue;
    T& mean = static_cast<T*>(a.running_mean)[c];
    T& kept = static_cast<T*>(a.running_variance)[c];
    mean = static_cast<T>((1 - momentum) * static_cast<double>(mean) + momentum * all.mean);
    kept = static_cast<T>((1 - momentum) * static_cast<double>(kept) +
                          momentum * (all.squares / (all.n - 1)));
  }
}

template <class T>
void running_kernel(const void* raw, int64_t) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  for (int64_t c = 0; c < a.channels; ++c) {
    static_cast<T*>(a.mean)[c] = static_cast<const T*>(a.running_mean)[c];
    const double variance = static_cast<double>(static_cast<const T*>(a.running_variance)[c]);
    static_cast<T*>(a.rstd)[c] = static_cast<T>(1.0 / __builtin_sqrt(variance + a.eps));
  }
}

// y for [samples, channels] by samples, else by (sample, channel).
template <class T>
void batch_kernel(const void* raw, int64_t chunk) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  alignas(64) T values[kBlock], results[kBlock];
  const T* means = static_cast<const T*>(a.mean);
  const T* rstds = static_cast<const T*>(a.rstd);
  const T* weights = static_cast<const T*>(a.weight);
  const T* biases = static_cast<const T*>(a.bias);
  const int64_t units = a.inner == 1 ? a.samples : a.samples * a.channels;
  const int64_t last = min_of(units, (chunk + 1) * a.units_per_chunk);
  for (int64_t u = chunk * a.units_per_chunk; u < last; ++u) {
    const int64_t length = a.inner == 1 ? a.channels : a.inner;
    const int64_t channel = a.inner == 1 ? 0 : u % a.channels;
    for (int64_t i = 0; i < length; i += kBlock) {
      const int64_t n = min_of(kBlock, length - i), at = u * length + i;
      const T* x = read(a.x, at, n, values);
      T* y = target_of(a.out, at, results);
      if (a.inner == 1) {
        const T* mean = means + i;
        const T* rstd = rstds + i;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - mean[j]) * rstd[j];
        if (weights) {
#pragma GCC ivdep
          for (int64_t j = 0; j < n; ++j) y[j] *= weights[i + j];
        }
        if (biases) {
#pragma GCC ivdep
          for (int64_t j = 0; j < n; ++j) y[j] += biases[i + j];
        }
      } else {
        const T mean = means[channel];
        const T scale = weights ? rstds[channel] * weights[channel] : rstds[channel];
        const T shift = biases ? biases[channel] : T(0);
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - mean) * scale + shift;
      }
      write(a.out, at, n, y);
    }
  }
}

template <class T>
void column_sums(const BatchArgs& a, int64_t first, int64_t last, int64_t column, int64_t n,
                 Sums* sums) {
  alignas(64) T values[kTile], upstream[kTile], g[kTile], gx[kTile];
  const T* mean = static_cast<const T*>(a.mean) + column;
  const T* rstd = static_cast<const T*>(a.rstd) + column;
  for (int64_t from = first; from < last; from += kFlushRows) {
    const int64_t to = min_of(last, from + kFlushRows);
    for (int64_t c = 0; c < n; ++c) g[c] = gx[c] = T(0);
    for (int64_t r = from; r < to; ++r) {
      const T* x = read(a.x, r * a.channels + column, n, values);
      const T* dy = read(a.dy, r * a.channels + column, n, upstream);
      for (int64_t c = 0; c < n; ++c) {
        g[c] += dy[c];
        gx[c] += dy[c] * ((x[c] - mean[c]) * rstd[c]);
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      sums[c].g += static_cast<double>(g[c]);
      sums[c].gx += static_cast<double>(gx[c]);
    }
  }
}

template <class T>
void batch_sums_kernel(const void* raw, int64_t chunk) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  const int64_t block = chunk / a.channel_chunks;
  const int64_t c0 = chunk % a.channel_chunks * a.channels_per_chunk;
  const int64_t c1 = min_of(a.channels, c0 + a.channels_per_chunk);
  const int64_t first = block * a.samples_per_block;
  const int64_t last = min_of(a.samples, first + a.samples_per_block);
  double* partial = a.partials + block * a.channels * 2;
  Sums sums[kTile];
  for (int64_t c = c0; c < c1; c += kTile) {
    const int64_t n = min_of(kTile, c1 - c);
    for (int64_t k = 0; k < n; ++k) sums[k] = {0, 0};
    if (a.inner == 1) {
      column_sums<T>(a, first, last, c, n, sums);
    } else {
      alignas(64) T values[kBlock], upstream[kBlock];
      for (int64_t k = 0; k < n; ++k) {
        const T mean = static_cast<const T*>(a.mean)[c + k];
        const T rstd = static_cast<const T*>(a.rstd)[c + k];
        for_channel(a, c + k, first, last, [&](int64_t at, int64_t length, int64_t count) {
          const int64_t step = a.channels * a.inner;
          const T* x = read_runs(a.x, at, length, step, count, values);
          const T* dy = read_runs(a.dy, at, length, step, count, upstream);
          const Sums part = gradient_sums<T>(x, dy, nullptr, mean, rstd, length * count);
          sums[k].g += part.g;
          sums[k].gx += part.gx;
        });
      }
    }
    for (int64_t k = 0; k < n; ++k) {
      partial[2 * (c + k)] = sums[k].g;
      partial[2 * (c + k) + 1] = sums[k].gx;
    }
  }
}

template <class T>
void join_sums_kernel(const void* raw, int64_t) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  for (int64_t c = 0; c < a.channels; ++c) {
    Sums all = {0, 0};
    for (int64_t b = 0; b < a.blocks; ++b) {
      all.g += a.partials[(b * a.channels + c) * 2];
      all.gx += a.partials[(b * a.channels + c) * 2 + 1];
    }
    static_cast<T*>(a.dbias)[c] = static_cast<T>(all.g);
    static_cast<T*>(a.dweight)[c] = static_cast<T>(all.gx);
  }
}

// dx = scale·(dy - a - (x - mean)·b) with scale, a and b per channel.
template <class T>
void batch_gradient_kernel(const void* raw, int64_t chunk) {
  const BatchArgs& a = *static_cast<const BatchArgs*>(raw);
  alignas(64) T values[kBlock], upstream[kBlock], results[kBlock];
  const T* means = static_cast<const T*>(a.mean);
  const T* rstds = static_cast<const T*>(a.rstd);
  const T* weights = static_cast<const T*>(a.weight);
  const T* dweights = static_cast<const T*>(a.dweight);
  const T* dbiases = static_cast<const T*>(a.dbias);
  const T share = a.fixed ? T(0) : static_cast<T>(1.0 / static_cast<double>(a.samples * a.inner));
  const int64_t units = a.inner == 1 ? a.samples : a.samples * a.channels;
  const int64_t last = min_of(units, (chunk + 1) * a.units_per_chunk);
  for (int64_t u = chunk * a.units_per_chunk; u < last; ++u) {
    const int64_t length = a.inner == 1 ? a.channels : a.inner;
    const int64_t channel = a.inner == 1 ? 0 : u % a.channels;
    for (int64_t i = 0; i < length; i += kBlock) {
      const int64_t n = min_of(kBlock, length - i), at = u * length + i;
      const T* x = read(a.x, at, n, values);
      const T* dy = read(a.dy, at, n, upstream);
      T* dx = target_of(a.out, at, results);
      if (a.inner == 1) {
        const T* mean = means + i;
        const T* rstd = rstds + i;
        const T* sums = dweights + i;
        const T* plain = dbiases + i;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          const T xhat = (x[j] - mean[j]) * rstd[j];
          dx[j] = rstd[j] * (dy[j] - plain[j] * share - xhat * (sums[j] * share));
        }
        if (weights) {
#pragma GCC ivdep
          for (int64_t j = 0; j < n; ++j) dx[j] *= weights[i + j];
        }
      } else {
        const T rstd = rstds[channel];
        input_gradient<T>(x, dy, nullptr, means[channel], weights ? rstd * weights[channel] : rstd,
                          dbiases[channel] * share, dweights[channel] * share * rstd, dx, n);
      }
      write(a.out, at, n, dx);
    }
  }
}

BatchArgs batch_args(const NormShape& s, const View& x, const View* weight, const View& mean,
                     const View& rstd, const View* out) {
  BatchArgs a{};
  a.x = elements_of(&x);
  a.dy = a.x;
  a.out = elements_of(out);
  a.weight = weight ? weight->data : nullptr;
  a.mean = mean.data;
  a.rstd = rstd.data;
  a.samples = s.samples;
  a.channels = s.channels;
  a.inner = s.inner;
  const int64_t inner = max_of(1, s.inner);
  // Columns of a block keep a tile's worth of rows together; other channels stand alone.
  a.samples_per_block = max_of(max_of(1, s.inner == 1 ? 256 : kElementsPerChunk / inner),
                               chunk_count(s.samples, kMostPartials));
  a.blocks = chunk_count(s.samples, a.samples_per_block);
  a.channels_per_chunk =
      s.inner == 1 ? kTile
                   : max_of(1, kElementsPerChunk /
                                   max_of(1, min_of(a.samples_per_block, s.samples) * inner));
  a.channel_chunks = chunk_count(s.channels, a.channels_per_chunk);
  a.units_per_chunk = max_of(1, kElementsPerChunk / max_of(1, s.inner == 1 ? s.channels : inner));
  return a;
}

int64_t unit_chunks(const BatchArgs& a) {
  return chunk_count(a.inner == 1 ? a.samples : a.samples * a.channels, a.units_per_chunk);
}

size_t partial_bytes_of(const BatchArgs& a) {
  return sizeof(double) * static_cast<size_t>(max_of(1, a.blocks * a.channels * 2));
}

bool is_empty(const NormShape& s) { return s.samples * s.channels * s.inner == 0; }

void batch_statistics(Stream& stream, const NormShape& s, const View& x, double eps,
                      const View& mean, const View& rstd, const RunningStatistics& kept) {
  if (is_empty(s)) return;
  const bool wide = x.dtype == DType::float64;
  BatchArgs a = batch_args(s, x, nullptr, mean, rstd, nullptr);
  a.eps = eps;
  a.momentum = kept.momentum;
  a.running_mean = kept.mean ? kept.mean->data : nullptr;
  a.running_variance = kept.variance ? kept.variance->data : nullptr;
  a.batches = kept.batches ? static_cast<int64_t*>(kept.batches->data) : nullptr;
  const Scratch partials(stream, partial_bytes_of(a));
  a.partials = static_cast<double*>(partials.data());
  launch(stream, "batch_moments", wide ? batch_moments_kernel<double> : batch_moments_kernel<float>,
         &a, sizeof a, a.blocks * a.channel_chunks);
  launch(stream, "batch_moments_join",
         wide ? join_moments_kernel<double> : join_moments_kernel<float>, &a, sizeof a, 1);
}

void running_statistics(Stream& stream, const View& running_mean, const View& running_variance,
                        double eps, const View& mean, const View& rstd) {
  BatchArgs a{};
  a.eps = eps;
  a.channels = mean.shape[0];
  a.mean = mean.data;
  a.rstd = rstd.data;
  a.running_mean = running_mean.data;
  a.running_variance = running_variance.data;
  if (a.channels == 0) return;
  launch(stream, "running_statistics",
         mean.dtype == DType::float64 ? running_kernel<double> : running_kernel<float>, &a,
         sizeof a, 1);
}

void batch(Stream& stream, const NormShape& s, const View& x, const View* weight, const View* bias,
           const View& mean, const View& rstd, const View& y) {
  if (is_empty(s)) return;
  BatchArgs a = batch_args(s, x, weight, mean, rstd, &y);
  a.bias = bias ? bias->data : nullptr;
  launch(stream, "batch_norm",
         x.dtype == DType::float64 ? batch_kernel<double> : batch_kernel<float>, &a, sizeof a,
         unit_chunks(a));
}

void batch_backward(Stream& stream, const NormShape& s, const View& x, const View* weight,
                    const View& mean, const View& rstd, const View& dy, bool fixed, const View* dx,
                    const View& dweight, const View& dbias) {
  const bool wide = x.dtype == DType::float64;
  BatchArgs a = batch_args(s, x, weight, mean, rstd, dx);
  if (a.channels == 0) return;
  a.dy = elements_of(&dy);
  a.fixed = fixed;
  a.dweight = dweight.data;
  a.dbias = dbias.data;
  const Scratch partials(stream, partial_bytes_of(a));
  a.partials = static_cast<double*>(partials.data());
  if (a.blocks > 0) {
    launch(stream, "batch_sums", wide ? batch_sums_kernel<double> : batch_sums_kernel<float>, &a,
           sizeof a, a.blocks * a.channel_chunks);
  }
  launch(stream, "batch_sums_join", wide ? join_sums_kernel<double> : join_sums_kernel<float>, &a,
         sizeof a, 1);
  if (!dx || is_empty(s)) return;
  launch(stream, "batch_norm_backward",
         wide ? batch_gradient_kernel<double> : batch_gradient_kernel<float>, &a, sizeof a,
         unit_chunks(a));
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
