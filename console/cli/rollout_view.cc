#include "console/cli/rollout_view.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace shadowline::console {
namespace {

constexpr uint32_t kAll = 1'000'000;

Color ColorOf(v1::RolloutState state) {
  switch (state) {
    case v1::ROLLOUT_STATE_SETTLED:
      return Color::kGreen;
    case v1::ROLLOUT_STATE_RUNNING:
      return Color::kCyan;
    case v1::ROLLOUT_STATE_PAUSED:
      return Color::kYellow;
    case v1::ROLLOUT_STATE_STOPPED:
    case v1::ROLLOUT_STATE_ROLLED_BACK:
    case v1::ROLLOUT_STATE_ABORTED:
      return Color::kRed;
    default:
      return Color::kPlain;
  }
}

Color ColorOf(v1::TargetState state) {
  switch (state) {
    case v1::TARGET_STATE_WAITING:
      return Color::kDim;
    case v1::TARGET_STATE_AWAITING_APPROVAL:
      return Color::kYellow;
    case v1::TARGET_STATE_RAMPING:
      return Color::kCyan;
    case v1::TARGET_STATE_SETTLED:
      return Color::kGreen;
    case v1::TARGET_STATE_BLOCKED:
    case v1::TARGET_STATE_ROLLED_BACK:
      return Color::kRed;
    default:
      return Color::kPlain;
  }
}

// What a viewer looks for first.
int Interest(v1::TargetState state) {
  switch (state) {
    case v1::TARGET_STATE_ROLLED_BACK:
      return 0;
    case v1::TARGET_STATE_BLOCKED:
      return 1;
    case v1::TARGET_STATE_AWAITING_APPROVAL:
      return 2;
    case v1::TARGET_STATE_RAMPING:
      return 3;
    case v1::TARGET_STATE_SHADOW:
      return 4;
    case v1::TARGET_STATE_WAITING:
      return 5;
    default:
      return 6;
  }
}

bool IsFinal(v1::RolloutState state) {
  return state == v1::ROLLOUT_STATE_SETTLED || state == v1::ROLLOUT_STATE_ROLLED_BACK ||
         state == v1::ROLLOUT_STATE_ABORTED;
}

// A divergence took it off the way.
bool Failed(v1::TargetState state) {
  return state == v1::TARGET_STATE_BLOCKED || state == v1::TARGET_STATE_ROLLED_BACK;
}

using Targets = std::vector<const v1::RolloutTarget*>;

// "3 ramping, 1 shadow".
std::string StateCounts(const Targets& targets) {
  std::map<int, std::pair<v1::TargetState, int>> counts;
  for (const v1::RolloutTarget* target : targets) {
    auto& [state, count] = counts[Interest(target->state())];
    state = target->state();
    ++count;
  }
  std::vector<std::string> parts;
  for (const auto& [interest, entry] : counts)
    parts.push_back(absl::StrCat(Count(entry.second), " ", Word(entry.first)));
  return absl::StrJoin(parts, ", ");
}

// What a target still waits for, or why it does not move.
std::string Missing(const v1::RolloutTarget& target) {
  if (Failed(target.state())) return target.reason();
  std::vector<std::string> details;
  for (const v1::Clause& clause : target.clauses()) {
    if (!clause.met()) details.push_back(clause.detail().empty() ? clause.name() : clause.detail());
  }
  return absl::StrJoin(details, "; ");
}

struct Block {
  const v1::Cohort* cohort;
  Targets targets;
  bool open = false;  // Its targets are listed.
  size_t listed = 0;  // How many of them, when open.
};

// A cohort is opened where its targets differ or move; one that has not begun or is done is one line.
std::vector<Block> Blocks(const v1::Rollout& rollout) {
  std::vector<Block> blocks;
  for (const v1::Cohort& cohort : rollout.cohorts()) blocks.push_back({&cohort, {}});
  for (const v1::RolloutTarget& target : rollout.targets()) {
    for (Block& block : blocks) {
      if (block.cohort->name() == target.cohort()) block.targets.push_back(&target);
    }
  }
  for (Block& block : blocks) {
    const auto is = [](v1::TargetState state) { return [state](auto* target) { return target->state() == state; }; };
    block.open = !std::all_of(block.targets.begin(), block.targets.end(), is(v1::TARGET_STATE_WAITING)) &&
                 !std::all_of(block.targets.begin(), block.targets.end(), is(v1::TARGET_STATE_SETTLED));
    block.listed = block.targets.size();
  }
  return blocks;
}

// Takes target lines from the longest cohorts until `lines` are enough, and leaves each open cohort one target.
void Shorten(std::vector<Block>& blocks, int lines) {
  const auto needed = [&] {
    int total = 0;
    for (const Block& block : blocks) {
      total += 1;
      if (block.open) total += static_cast<int>(block.listed) + (block.listed < block.targets.size() ? 1 : 0);
    }
    return total;
  };
  while (needed() > lines) {
    auto longest = std::max_element(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
      return (a.open ? a.listed : 0) < (b.open ? b.listed : 0);
    });
    if (longest == blocks.end() || !longest->open || longest->listed <= 1) return;
    // The first cut costs a line for "... more", so it takes two.
    longest->listed -= longest->listed == longest->targets.size() && longest->listed > 2 ? 2 : 1;
  }
  for (Block& block : blocks) {
    if (block.listed == block.targets.size()) continue;
    std::stable_sort(block.targets.begin(), block.targets.end(),
                     [](auto* a, auto* b) { return Interest(a->state()) < Interest(b->state()); });
  }
}

// What to type next, where it is a person's turn.
std::vector<std::string> Next(const v1::Rollout& rollout) {
  const std::string family = Printable(rollout.family());
  const bool waits = std::any_of(rollout.targets().begin(), rollout.targets().end(), [](const auto& target) {
    return target.state() == v1::TARGET_STATE_AWAITING_APPROVAL;
  });
  switch (rollout.state()) {
    case v1::ROLLOUT_STATE_STOPPED:
      return {absl::StrCat("what differs:        shadowline divergences list --family ", family),
              absl::StrCat("once it is mended:   shadowline rollout resume ", family)};
    case v1::ROLLOUT_STATE_PAUSED:
      return {absl::StrCat("to go on:            shadowline rollout resume ", family)};
    case v1::ROLLOUT_STATE_ROLLED_BACK:
      return {absl::StrCat("what happened:       shadowline report ", family)};
    case v1::ROLLOUT_STATE_RUNNING:
      if (waits) return {absl::StrCat("to let it be served: shadowline rollout approve ", family)};
      return {};
    default:
      return {};
  }
}

Color ColorOfBlock(const Block& block) {
  if (block.targets.empty()) return Color::kDim;
  const auto* first = *std::min_element(block.targets.begin(), block.targets.end(),
                                        [](auto* a, auto* b) { return Interest(a->state()) < Interest(b->state()); });
  return ColorOf(first->state());
}

std::string BlockState(const Block& block) {
  if (block.targets.empty()) return "empty";
  if (!block.open) return Word(block.targets.front()->state());
  for (const v1::RolloutTarget* target : block.targets) {
    if (Failed(target->state())) return "stopped";
  }
  return "moving";
}

}  // namespace

std::string Word(v1::RolloutState state) {
  switch (state) {
    case v1::ROLLOUT_STATE_RUNNING:
      return "running";
    case v1::ROLLOUT_STATE_PAUSED:
      return "paused";
    case v1::ROLLOUT_STATE_STOPPED:
      return "stopped";
    case v1::ROLLOUT_STATE_SETTLED:
      return "settled";
    case v1::ROLLOUT_STATE_ROLLED_BACK:
      return "rolled back";
    case v1::ROLLOUT_STATE_ABORTED:
      return "aborted";
    default:
      return "unknown";
  }
}

std::string Word(v1::TargetState state) {
  switch (state) {
    case v1::TARGET_STATE_WAITING:
      return "waiting";
    case v1::TARGET_STATE_SHADOW:
      return "shadow";
    case v1::TARGET_STATE_AWAITING_APPROVAL:
      return "awaiting approval";
    case v1::TARGET_STATE_RAMPING:
      return "ramping";
    case v1::TARGET_STATE_SETTLED:
      return "settled";
    case v1::TARGET_STATE_BLOCKED:
      return "blocked";
    case v1::TARGET_STATE_ROLLED_BACK:
      return "rolled back";
    default:
      return "unknown";
  }
}

std::string Word(v1::Mode mode) {
  switch (mode) {
    case v1::MODE_DATABASE:
      return "database";
    case v1::MODE_SHADOW:
      return "shadow";
    case v1::MODE_CACHE:
      return "cache";
    default:
      return "unknown";
  }
}

std::vector<std::string> RolloutTree(const v1::Rollout& rollout, const Style& style, int max_lines) {
  std::vector<std::string> lines;
  std::string head = absl::StrCat(Paint(Printable(rollout.family()), Color::kBold, style), ": ",
                                  Paint(Word(rollout.state()), ColorOf(rollout.state()), style));
  if (!IsFinal(rollout.state())) {
    absl::StrAppend(&head, ", cohort ",
                    std::min<uint64_t>(uint64_t{rollout.cohort()} + 1, std::max(1, rollout.cohorts_size())), " of ",
                    rollout.cohorts_size());
    if (rollout.eta_us() > 0) absl::StrAppend(&head, ", about ", HumanEta(rollout.eta_us()), " to go");
  }
  lines.push_back(Cut(head, style));
  lines.push_back(
      Cut(absl::StrCat("rollout ", Printable(rollout.id()), ", started ", When(rollout.started_at_us(), style),
                       rollout.who().empty() ? "" : absl::StrCat(" by ", Printable(rollout.who())),
                       rollout.reason().empty() ? "" : absl::StrCat(": ", Printable(rollout.reason()))),
          style));
  lines.push_back("");

  const std::vector<std::string> next = Next(rollout);
  std::vector<Block> blocks = Blocks(rollout);
  if (max_lines > 0) {
    Shorten(blocks, max_lines - static_cast<int>(lines.size() + 1 + next.size() + (next.empty() ? 0 : 1)));
  }

  const bool u = style.unicode;
  Table table({{"TARGET"}, {"STATE"}, {"CACHE", Align::kRight}, {"WINDOW", Align::kRight}, {"ETA"}, {"MISSING"}});
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    const bool last = i + 1 == blocks.size();
    const bool settled = !block.open && !block.targets.empty() && block.targets[0]->state() == v1::TARGET_STATE_SETTLED;
    table.AddRow({absl::StrCat(last ? (u ? "└─ " : "`- ") : (u ? "├─ " : "|- "), block.cohort->name()),
                  Cell(BlockState(block), ColorOfBlock(block)), settled ? Percent(kAll) : "", "", "",
                  Cell(block.open ? StateCounts(block.targets) : Plural(block.targets.size(), "target"), Color::kDim)});
    if (!block.open) continue;
    const std::string indent = last ? "   " : (u ? "│  " : "|  ");
    for (size_t j = 0; j < block.listed; ++j) {
      const v1::RolloutTarget& target = *block.targets[j];
      const bool end = j + 1 == block.targets.size();
      table.AddRow({absl::StrCat(indent, end ? (u ? "└─ " : "`- ") : (u ? "├─ " : "|- "), target.tenant()),
                    Cell(Word(target.state()), ColorOf(target.state())),
                    target.mode() == v1::MODE_CACHE ? Percent(target.serve_ppm()) : "-",
                    target.window() == 0 ? "-" : Count(target.window()),
                    target.eta_us() > 0 && !Failed(target.state()) ? HumanEta(target.eta_us()) : "-", Missing(target)});
    }
    if (block.listed < block.targets.size()) {
      const Targets rest(block.targets.begin() + static_cast<std::ptrdiff_t>(block.listed), block.targets.end());
      table.AddRow({Cell(absl::StrCat(indent, u ? "└─ … " : "`- ... ", rest.size(), " more"), Color::kDim), "", "", "",
                    "", Cell(StateCounts(rest), Color::kDim)});
    }
  }
  for (std::string& line : table.Lines(style)) lines.push_back(std::move(line));
  if (!next.empty()) lines.push_back("");
  for (const std::string& step : next) {
    lines.push_back(
        Cut(absl::StrCat(&step == &next[0] ? Paint("next", Color::kBold, style) : "    ", "  ", step), style));
  }
  return lines;
}

std::string PolicyText(const v1::Policy& policy) {
  std::vector<std::string> ramp;
  for (const uint32_t share : policy.ramp_ppm()) ramp.push_back(Percent(share));
  std::vector<std::string> parts;
  const auto add = [&](bool known, std::string part) {
    if (known) parts.push_back(std::move(part));
  };
  add(!policy.duration().empty(), absl::StrCat("a window of ", policy.duration()));
  add(policy.episodes() > 0, absl::StrCat(Count(policy.episodes()), " episodes and ", Count(policy.distinct_keys()),
                                          " keys for each endpoint"));
  add(policy.exercised() > 0, absl::StrCat(Count(policy.exercised()), " after a write"));
  add(policy.slo_ppm() > 0, absl::StrCat("fewer than ", Percent(policy.slo_ppm()), " diverge, at ",
                                         Percent(policy.confidence_ppm()), " confidence"));
  add(policy.unjudged_ppm() > 0, absl::StrCat("at most ", Percent(policy.unjudged_ppm()), " unjudged"));
  add(!policy.candidate_p95().empty(), absl::StrCat("cache p95 under ", policy.candidate_p95()));
  add(!ramp.empty(), absl::StrCat("ramp ", absl::StrJoin(ramp, ", "), " with ", policy.soak(), " of soak"));
  add(policy.approval(), "each cohort is approved by a person");
  return Printable(parts.empty() ? "the catalog's" : absl::StrJoin(parts, "; "));
}

std::string RolloutTable(const v1::ListRolloutsResponse& rollouts, const Style& style) {
  if (rollouts.rollouts().empty()) return "No rollouts.\n";
  Table table({{"FAMILY"},
               {"ROLLOUT"},
               {"STATE"},
               {"COHORT"},
               {"SETTLED", Align::kRight},
               {"TARGETS", Align::kRight},
               {"ETA"},
               {"STARTED"},
               {"BY"}});
  for (const v1::Rollout& rollout : rollouts.rollouts()) {
    const auto settled = std::count_if(rollout.targets().begin(), rollout.targets().end(),
                                       [](const auto& target) { return target.state() == v1::TARGET_STATE_SETTLED; });
    const bool moves = static_cast<int>(rollout.cohort()) < rollout.cohorts_size();
    table.AddRow({rollout.family(), rollout.id(), Cell(Word(rollout.state()), ColorOf(rollout.state())),
                  moves ? rollout.cohorts(static_cast<int>(rollout.cohort())).name() : "-", Count(settled),
                  Count(rollout.targets_size()), rollout.eta_us() > 0 ? HumanEta(rollout.eta_us()) : "-",
                  When(rollout.started_at_us(), style), rollout.who()});
  }
  return table.Render(style);
}

std::vector<std::string> RolloutChanges(const v1::Rollout* before, const v1::Rollout& now, const Style& style) {
  std::vector<std::string> lines;
  const std::string stamp = Paint(Timestamp(absl::ToUnixMicros(style.now)), Color::kDim, style);
  const auto add = [&](absl::string_view what, const std::string& from, const std::string& to, absl::string_view why) {
    lines.push_back(Cut(absl::StrCat(stamp, "  ", Printable(what), ": ", from.empty() ? "" : absl::StrCat(from, " -> "),
                                     to, why.empty() ? "" : absl::StrCat(" (", Printable(why), ")")),
                        style));
  };
  const auto share = [](const v1::RolloutTarget& target) {
    return target.mode() == v1::MODE_CACHE ? absl::StrCat(" ", Percent(target.serve_ppm())) : "";
  };

  std::map<std::string, const v1::RolloutTarget*> known;
  if (before != nullptr) {
    for (const v1::RolloutTarget& target : before->targets()) known[target.tenant()] = &target;
  }
  for (const v1::RolloutTarget& target : now.targets()) {
    const auto found = known.find(target.tenant());
    const std::string to = absl::StrCat(Paint(Word(target.state()), ColorOf(target.state()), style), share(target));
    const std::string name = absl::StrCat(now.family(), "/", target.tenant());
    if (found == known.end()) {
      if (target.state() != v1::TARGET_STATE_WAITING) add(name, "", to, Missing(target));
    } else if (const v1::RolloutTarget& old = *found->second;
               old.state() != target.state() || share(old) != share(target)) {
      add(name, absl::StrCat(Word(old.state()), share(old)), to, target.reason());
    }
  }
  if (before == nullptr || before->state() != now.state()) {
    add(now.family(), before == nullptr ? "" : Word(before->state()),
        Paint(Word(now.state()), ColorOf(now.state()), style), "");
  }
  if (before != nullptr && before->cohort() != now.cohort() && static_cast<int>(now.cohort()) < now.cohorts_size()) {
    add(now.family(), "", absl::StrCat("cohort ", Printable(now.cohorts(static_cast<int>(now.cohort())).name())), "");
  }
  return lines;
}

std::optional<int> WatchResult(v1::RolloutState state) {
  switch (state) {
    case v1::ROLLOUT_STATE_SETTLED:
      return 0;
    case v1::ROLLOUT_STATE_ROLLED_BACK:
    case v1::ROLLOUT_STATE_ABORTED:
      return 1;
    case v1::ROLLOUT_STATE_STOPPED:
      return 3;
    default:
      return std::nullopt;
  }
}

}  // namespace shadowline::console
