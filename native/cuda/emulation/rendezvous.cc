// Where the threads of a block meet: the block's barrier, named barriers, and the warp's
// exchanges, which the last lane to arrive carries out for all.
#include <bit>
#include <cstdio>
#include <cstring>

#include "emulation/executor.h"

namespace nodegrad::emulation {

namespace {

bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

const char* base_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash ? slash + 1 : path;
}

Text text(Site site) {
  Text t;
  std::snprintf(t.chars, sizeof t.chars, "%s:%d", base_name(site.file), site.line);
  return t;
}

constexpr const char* kKindNames[] = {"__syncwarp", "a shuffle", "a vote", "a match", "a gather"};

// What lane `source` gives; an undefined value where it does not take part.
uint64_t shuffled(const Warp& warp, unsigned mask, int source) {
  constexpr uint64_t kUndefined = 0x7ff8baadfff8baadu;
  if (source < 0 || source > 31 || !(mask >> source & 1)) return kUndefined;
  return warp.arrivals[source]->value;
}

template <class F>
void for_lanes(unsigned mask, F f) {
  for (; mask; mask &= mask - 1) f(std::countr_zero(mask));
}

void complete(Block& block, unsigned warp_number, unsigned mask) {
  Warp& warp = block.warps[warp_number];
  auto& arrivals = warp.arrivals;
  switch (arrivals[std::countr_zero(mask)]->kind) {
    case WarpKind::barrier:
      shadow_warp_met(block, warp_number, mask);
      break;
    case WarpKind::shuffle: {
      uint64_t results[32];
      for_lanes(mask, [&](int l) { results[l] = shuffled(warp, mask, arrivals[l]->source); });
      for_lanes(mask, [&](int l) { arrivals[l]->value = results[l]; });
      break;
    }
    case WarpKind::vote: {
      unsigned votes = 0;
      for_lanes(mask, [&](int l) { votes |= unsigned(arrivals[l]->value != 0) << l; });
      for_lanes(mask, [&](int l) { arrivals[l]->value = votes; });
      break;
    }
    case WarpKind::match: {
      unsigned matches[32] = {};
      for_lanes(mask, [&](int l) {
        for_lanes(mask, [&](int o) {
          matches[l] |= unsigned(arrivals[l]->value == arrivals[o]->value) << o;
        });
      });
      for_lanes(mask, [&](int l) { arrivals[l]->value = matches[l]; });
      break;
    }
    case WarpKind::gather:
      for_lanes(mask, [&](int l) {
        char* out = static_cast<char*>(arrivals[l]->out);
        const size_t bytes = arrivals[l]->bytes;
        for (int o = 0; o < 32; ++o) std::memcpy(out + o * bytes, arrivals[o]->in, bytes);
      });
      break;
  }
}

void check_agreement(const WarpArrival& mine, const WarpArrival& other, unsigned lane, int o) {
  if (mine.mask != other.mask) {
    fail_thread("%s at %s: lane %u names mask 0x%08x, lane %d waits with 0x%08x",
                kKindNames[static_cast<int>(mine.kind)], text(mine.site).chars, lane, mine.mask, o,
                other.mask);
  }
  if (mine.kind != other.kind || !same(mine.site, other.site)) {
    fail_thread("%s at %s: lane %d of its mask waits at another one, %s at %s",
                kKindNames[static_cast<int>(mine.kind)], text(mine.site).chars, o,
                kKindNames[static_cast<int>(other.kind)], text(other.site).chars);
  }
}

void arrive(WarpArrival& mine) {
  Thread& thread = *current_thread;
  Block& block = *thread.block;
  const unsigned number = thread.linear / 32, lane = thread.linear % 32;
  Warp& warp = block.warps[number];
  if (!(mine.mask >> lane & 1)) {
    fail_thread("%s at %s: lane %u is not in its own mask 0x%08x",
                kKindNames[static_cast<int>(mine.kind)], text(mine.site).chars, lane, mine.mask);
  }
  if (warp.waiting == 0) {
    warp.uniform = true;
  } else {
    const WarpArrival& other = *warp.arrivals[std::countr_zero(warp.waiting)];
    if (warp.uniform && other.mask == mine.mask) {
      check_agreement(mine, other, lane, std::countr_zero(warp.waiting));
    } else {
      warp.uniform = false;
      for_lanes(warp.waiting & mine.mask, [&](int o) {
        // A lane that does not wait for this one may still finish its own exchange and come.
        if (warp.arrivals[o]->mask >> lane & 1) {
          check_agreement(mine, *warp.arrivals[o], lane, o);
        }
      });
    }
  }
  warp.arrivals[lane] = &mine;
  warp.waiting |= 1u << lane;
  unsigned arrived = warp.waiting;
  if (!warp.uniform) {
    for_lanes(warp.waiting, [&](int o) {
      if (warp.arrivals[o]->mask != mine.mask) arrived &= ~(1u << o);
    });
  }
  if ((arrived & mine.mask) != mine.mask) {
    suspend(thread, Wait::warp, mine.site);
    return;
  }
  complete(block, number, mine.mask);
  warp.waiting &= ~mine.mask;
  for_lanes(mine.mask & ~(1u << lane), [&](int l) { release(block.threads[number * 32 + l]); });
}

}  // namespace

Votes block_barrier(int predicate, const char* file, int line) {
  Thread& thread = *current_thread;
  Block& block = *thread.block;
  const Site site{file, line};
  if (block.arrived == 0) {
    block.site = site;
    block.votes = {0, 1, 0};
  } else if (!same(site, block.site)) {
    fail_thread("__syncthreads at %s, while other threads of the block wait at %s",
                text(site).chars, text(block.site).chars);
  }
  block.votes.count += predicate != 0;
  block.votes.all &= predicate != 0;
  block.votes.any |= predicate != 0;
  if (++block.arrived < block.threads.size()) {
    suspend(thread, Wait::block, site);
    return block.result;
  }
  block.arrived = 0;
  block.result = block.votes;
  shadow_block_met(block);
  for (Thread& other : block.threads) {
    if (other.wait == Wait::block) release(other);
  }
  return block.result;
}

static void named_barrier(int id, int threads, Site site, bool waits) {
  Thread& thread = *current_thread;
  Block& block = *thread.block;
  if (id < 1 || id > 15 || threads <= 0 || threads % 32 != 0 ||
      static_cast<size_t>(threads) > block.threads.size()) {
    fail_thread(
        "named barrier at %s: 1 to 15, for a multiple of 32 threads of the block, got "
        "barrier %d for %d threads",
        text(site).chars, id, threads);
  }
  NamedBarrier& barrier = block.named[id];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
  } else if (barrier.expected != threads) {
    fail_thread("named barrier %d at %s is for %d threads, others wait there for %d", id,
                text(site).chars, threads, barrier.expected);
  }
  barrier.members.push_back({&thread, waits, waits ? 0 : shadow_tick()});
  if (++barrier.arrived < barrier.expected) {
    if (waits) suspend(thread, Wait::named, site);
    return;
  }
  shadow_some_met(block, barrier.members);
  for (const BarrierMember& member : barrier.members) {
    if (member.waits && member.thread != &thread) release(*member.thread);
  }
  barrier.arrived = 0;
  barrier.members.clear();
}

void named_barrier_sync(int id, int threads, const char* file, int line) {
  named_barrier(id, threads, {file, line}, true);
}

void named_barrier_arrive(int id, int threads, const char* file, int line) {
  named_barrier(id, threads, {file, line}, false);
}

void warp_barrier(unsigned mask, const char* file, int line) {
  WarpArrival mine{.kind = WarpKind::barrier, .mask = mask, .site = {file, line}};
  arrive(mine);
}

uint64_t warp_shuffle(unsigned mask, uint64_t value, int source, const char* file, int line) {
  WarpArrival mine{.kind = WarpKind::shuffle,
                   .mask = mask,
                   .site = {file, line},
                   .source = source,
                   .value = value};
  arrive(mine);
  return mine.value;
}

unsigned warp_vote(unsigned mask, bool predicate, const char* file, int line) {
  WarpArrival mine{
      .kind = WarpKind::vote, .mask = mask, .site = {file, line}, .value = predicate ? 1u : 0u};
  arrive(mine);
  return static_cast<unsigned>(mine.value);
}

unsigned warp_match(unsigned mask, uint64_t value, const char* file, int line) {
  WarpArrival mine{.kind = WarpKind::match, .mask = mask, .site = {file, line}, .value = value};
  arrive(mine);
  return static_cast<unsigned>(mine.value);
}

void warp_gather(const void* in, size_t bytes, void* all, const char* file, int line) {
  WarpArrival mine{.kind = WarpKind::gather,
                   .mask = 0xffffffffu,
                   .site = {file, line},
                   .in = in,
                   .out = all,
                   .bytes = bytes};
  arrive(mine);
}

std::string describe_deadlock(const Block& block) {
  const Thread* first = nullptr;
  unsigned waiting = 0, exited = 0, elsewhere = 0;
  for (const Thread& thread : block.threads) {
    if (thread.wait == Wait::exited) {
      ++exited;
    } else if (!first || (thread.wait == first->wait && same(thread.site, first->site))) {
      if (!first) first = &thread;
      ++waiting;
    } else {
      ++elsewhere;
    }
  }
  const char* what = first->wait == Wait::block      ? "__syncthreads"
                     : first->wait == Wait::named    ? "a named barrier"
                     : first->wait == Wait::cluster  ? "the cluster's barrier"
                     : first->wait == Wait::mbarrier ? "an mbarrier"
                     : first->wait == Wait::product  ? "products of their warpgroup"
                                                     : "an exchange of their warp";
  return std::to_string(waiting) + " threads wait at " + what + " (" + text(first->site).chars +
         ") for threads that never come: " + std::to_string(exited) + " have exited, " +
         std::to_string(elsewhere) + " wait elsewhere";
}

}  // namespace nodegrad::emulation
