// Recurrences in clusters (rnn_cluster.cu) against those of a cooperative grid (rnn_persistent.cu),
// which op tests compare with the CPU: that they take what fits, agree, give the same bits twice.
// Each seed runs one problem of the list.
#include <cmath>

#include "cluster.h"
#include "harness.h"
#include "rnn_cluster.h"
#include "rnn_persistent.h"
#include "rnn_plan.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;

namespace {

struct Problem {
  RnnMode mode;
  DType dtype;
  int64_t hidden, batch;
  bool lengths = false, tf32 = false, plain = false;  // plain: no biases, no first states
  int64_t directions = 1, steps = 3;
};

constexpr auto kLstm = RnnMode::lstm, kGru = RnnMode::gru, kTanh = RnnMode::tanh,
               kRelu = RnnMode::relu;
constexpr auto kF32 = DType::float32, kBf16 = DType::bfloat16, kF16 = DType::float16;

constexpr Problem kProblems[] = {
    {kLstm, kF32, 32, 1},
    {kLstm, kF32, 100, 5, true},
    {kLstm, kF32, 128, 33, false, false, true, 1, 2},
    {kLstm, kF32, 256, 5, true, false, false, 1, 2},
    {kLstm, kF32, 32, 33, true, true},
    {kLstm, kF32, 100, 1, false, true},
    {kLstm, kF32, 160, 5, false, true, false, 1, 2},
    {kLstm, kBf16, 32, 5, true, false, true, 2},
    {kLstm, kBf16, 100, 33, true, false, false, 1, 2},
    {kLstm, kBf16, 128, 1, false, false, false, 1, 5},
    {kLstm, kBf16, 256, 5, true, false, false, 1, 2},
    {kLstm, kF16, 100, 5, false, false, false, 2, 2},
    {kLstm, kF16, 128, 33, true, false, false, 1, 2},
    {kLstm, kF16, 256, 1, true, false, false, 1, 2},
    {kGru, kF32, 100, 33, true, false, false, 1, 2},
    {kGru, kBf16, 160, 5},
    {kGru, kF16, 32, 33, true, false, true},
    {kGru, kF32, 40, 5, true, true, false, 2},
    {kTanh, kBf16, 100, 5, true},
    {kRelu, kF32, 32, 33, true, false, false, 2},
};

struct Tensor {
  DType dtype;
  std::vector<float> values;
  Buffer<unsigned char> data;

  Tensor(DType type, int64_t count)
      : dtype(type),
        values(static_cast<size_t>(count)),
        data(std::max<size_t>(1, values.size()) * item_size(type)) {}
};

class Layer {
 public:
  explicit Layer(const Problem& q) : q_(q), stream_(harness::hopper().make_stream()) {
    const int64_t gates = rnn_gates(q.mode), h = q.hidden, rows = q.batch * q.steps;
    const int64_t states = q.directions * q.batch * h, all = q.directions * rows * h;
    a_.mode = q.mode;
    a_.dtype = q.dtype;
    a_.precision = q.tf32 ? Precision::high : Precision::highest;
    a_.directions = q.directions;
    a_.batch = q.batch;
    a_.steps = q.steps;
    a_.hidden = h;
    a_.row_batch = q.steps;
    a_.row_step = 1;
    const float bound = 1.5f / std::sqrt(static_cast<float>(h));
    for (int64_t d = 0; d < q.directions; ++d) {
      a_.w_hh[d] = filled(gates * h * h, bound);
      if (!q.plain) a_.b_hh[d] = filled(gates * h, 0.3f);
    }
    if (!q.plain) a_.h0 = filled(states, 1);
    if (!q.plain && q.mode == kLstm) a_.c0 = filled(states, 1);
    if (q.lengths) {
      std::vector<int64_t> lengths;
      for (int64_t b = 0; b < q.batch; ++b)
        lengths.push_back((b * 7 + q.steps - 1) % (q.steps + 1));
      lengths_ = std::make_unique<Buffer<int64_t>>(lengths.size());
      lengths_->write(*stream_, lengths);
      a_.lengths = lengths_->data();
    }
    a_.gates = filled(all * gates, 1);
    x_ = tensors_.size() - 1;
    const bool lstm = q.mode == kLstm, cells = lstm || q.mode == kGru;
    a_.cells = cells ? made(kF32, all) : nullptr;
    a_.output = result(all);
    a_.h_n = result(states);
    a_.c_n = lstm ? result(states) : nullptr;
    d_.d_output = filled(all, 1);
    d_.d_h_n = filled(states, 1);
    d_.d_c_n = lstm ? filled(states, 1) : nullptr;
    d_.d_input_gates = result(all * gates);
    d_.d_hidden_gates = q.mode == kGru ? result(all * gates) : d_.d_input_gates;
    d_.previous = result(all);
    d_.d_h0 = result(states);
    d_.d_c0 = lstm ? result(states) : nullptr;
  }

  // Both passes by either kernels; the bytes of all results, one after the other.
  std::vector<std::vector<unsigned char>> run(bool clusters) {
    write(*tensors_[x_]);  // the forward pass replaces them
    if (clusters) {
      EXPECT(rnn_cluster_forward(*stream_, a_));
      EXPECT(rnn_cluster_backward(*stream_, a_, d_));
    } else {
      EXPECT(rnn_persistent_forward(*stream_, a_));
      EXPECT(rnn_persistent_backward(*stream_, a_, d_));
    }
    std::vector<std::vector<unsigned char>> bytes;
    for (const Tensor* t : results_) bytes.push_back(t->data.read(*stream_));
    return bytes;
  }

 private:
  void* made(DType dtype, int64_t count) {
    tensors_.push_back(std::make_unique<Tensor>(dtype, count));
    return tensors_.back()->data.data();
  }
  void* result(int64_t count) {
    void* data = made(q_.dtype, count);
    results_.push_back(tensors_.back().get());
    return data;
  }
  void* filled(int64_t count, float bound) {
    void* data = made(q_.dtype, count);
    for (float& value : tensors_.back()->values) {
      seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
      value = bound * (static_cast<float>(seed_ >> 40) / 0x1p23f - 1);
    }
    write(*tensors_.back());
    return data;
  }
  void write(Tensor& t) {
    std::vector<unsigned char> bytes(t.values.size() * item_size(t.dtype));
    for (size_t i = 0; i < t.values.size(); ++i) {
      if (t.dtype == kF32) {
        std::memcpy(&bytes[i * 4], &t.values[i], 4);
      } else {
        const uint16_t bits = t.dtype == kF16 ? emulation::float_to_half(t.values[i])
                                              : emulation::float_to_bfloat(t.values[i]);
        std::memcpy(&bytes[i * 2], &bits, 2);
      }
    }
    t.data.write(*stream_, bytes);
  }

  Problem q_;
  std::unique_ptr<Stream> stream_;
  RnnArgs a_{};
  RnnGradients d_{};
  std::unique_ptr<Buffer<int64_t>> lengths_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<const Tensor*> results_;
  size_t x_ = 0;
  uint64_t seed_ = 1;
};

float value_at(DType dtype, const unsigned char* p) {
  uint32_t bits = 0;
  std::memcpy(&bits, p, item_size(dtype));
  return dtype == kF32   ? __uint_as_float(bits)
         : dtype == kF16 ? emulation::half_to_float(static_cast<uint16_t>(bits))
                         : to_float(BFloat16{static_cast<uint16_t>(bits)});
}

}  // namespace

CASE(rnn_clusters_agree) {
  static_assert(std::size(kProblems) <= 20, "emulation.test.ts runs 20 seeds");
  const Problem& q = kProblems[emulation::seed() % std::size(kProblems)];
  Layer layer(q);
  const auto found = layer.run(true);
  const harness::WithoutChecks unchecked;
  EXPECT(layer.run(true) == found);
  const auto expected = layer.run(false);
  // Sums in another order may round h to a neighbour, which later steps see.
  const float within = q.dtype == kBf16  ? 0x1p-4f
                       : q.dtype == kF16 ? 0x1p-7f
                       : q.tf32          ? 0x1p-8f
                                         : 0x1p-17f;
  const size_t item = item_size(q.dtype);
  for (size_t r = 0; r < found.size(); ++r) {
    for (size_t at = 0; at < found[r].size(); at += item) {
      const float x = value_at(q.dtype, &found[r][at]), y = value_at(q.dtype, &expected[r][at]);
      if (!(std::fabs(x - y) <= within * (1 + std::fabs(y)))) {
        harness::fail_case("result " + std::to_string(r) + " at " + std::to_string(at / item) +
                           ": " + std::to_string(x) + ", expected " + std::to_string(y));
      }
    }
  }
}

CASE(rnn_clusters_take_what_fits) {
  const auto plan_of = [](int64_t hidden, int64_t batch, auto product) {
    RnnArgs a{};
    a.hidden = hidden;
    a.batch = batch;
    a.directions = 1;
    a.steps = 10;
    RnnClusterPlan p{};
    const auto resident = [](int blocks) { return 132 / blocks; };
    return choose_rnn_cluster_plan<decltype(product)>(resident, a, p) ? p : RnnClusterPlan{};
  };
  const HalfProduct<BFloat16> half{};
  EXPECT(plan_of(32, 1, half).blocks == 1);
  EXPECT(plan_of(100, 1, half).blocks == 4);
  EXPECT(plan_of(256, 1, FloatProduct{}).blocks == 8);
  EXPECT(plan_of(257, 1, half).blocks == 0);
  // A small batch spreads over the chip; a large one takes two groups a cluster.
  EXPECT(plan_of(256, 64, half).row_groups == 1);
  EXPECT(plan_of(256, 64, half).clusters == 8);
  EXPECT(plan_of(256, 256, half).row_groups == 2);
  EXPECT(plan_of(256, 256, FloatProduct{}).row_groups == 1);
}

CASE(rnn_clusters_need_sm_90) {
  auto stream = harness::make_stream();
  RnnArgs a{};
  a.dtype = kF32;
  a.batch = a.directions = 1;
  a.steps = 2;
  a.hidden = 32;
  EXPECT(!rnn_cluster_forward(*stream, a));
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
