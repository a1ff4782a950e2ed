#include "console/cli/divergence_view.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace shadowline::console {
namespace {

// When the database was first seen to hold something else than the fill.
std::optional<int64_t> FirstDifference(const v1::Proof& proof) {
  for (const v1::Observation& observation : proof.observations()) {
    if (observation.differed()) return observation.control_at_us();
  }
  return std::nullopt;
}

std::string Offset(int64_t at_us, int64_t origin_us) {
  const double seconds = static_cast<double>(at_us - origin_us) / 1e6;
  return absl::StrFormat("%+.3f s", seconds);
}

Table Differences(const google::protobuf::RepeatedPtrField<v1::Difference>& differences) {
  Table rows({{"WHERE"}, {"KIND"}, {"DATABASE"}, {"CACHE"}});
  for (const v1::Difference& difference : differences) {
    rows.AddRow({difference.pointer().empty() ? "(whole answer)" : difference.pointer(), difference.kind(),
                 difference.control().empty() ? "-" : difference.control(),
                 Cell(difference.candidate().empty() ? "-" : difference.candidate(), Color::kRed)});
  }
  return rows;
}

std::vector<std::string> NextSteps(const v1::Divergence& divergence) {
  std::vector<std::string> steps;
  if (!divergence.advice().empty()) steps.push_back(divergence.advice());
  if (divergence.replayable()) {
    steps.push_back(
        absl::StrCat("what both sides say now, or what was kept: shadowline divergences replay ", divergence.id()));
  }
  steps.push_back(
      absl::StrCat("the same elsewhere: shadowline divergences list --each --group ", divergence.fingerprint()));
  steps.push_back(absl::StrCat("once it is mended: shadowline rollout resume ", divergence.family()));
  return steps;
}

std::string UnsafeWords(const std::string& unsafe) {
  if (unsafe == "another_tenant") return "another tenant's data";
  if (unsafe == "another_identity") return "somebody else's data";
  if (unsafe == "authorization") return "a wrong permission";
  return Printable(unsafe);
}

}  // namespace

std::string CauseWords(const std::string& cause) {
  return cause.empty() ? "unknown" : absl::StrReplaceAll(cause, {{"_", " "}});
}

std::string GroupTable(const google::protobuf::RepeatedPtrField<v1::DivergenceGroup>& groups, const Style& style) {
  if (groups.empty()) return "No divergences.\n";
  Table table({{"GROUP"},
               {"ENDPOINT"},
               {"CAUSE"},
               {"FOUND", Align::kRight},
               {"TENANTS", Align::kRight},
               {"KEYS", Align::kRight},
               {"READS", Align::kRight},
               {"FIRST"},
               {"LAST"},
               {"NEWEST"},
               {"DIFFERS AT"}});
  for (const v1::DivergenceGroup& group : groups) {
    table.AddRow({group.fingerprint(), group.endpoint(), Cell(CauseWords(group.cause()), Color::kRed),
                  Count(group.divergences()), Count(group.tenants()), Count(group.keys()),
                  Count(group.reads_affected()), When(group.first_at_us(), style), When(group.last_at_us(), style),
                  group.example_id(), absl::StrJoin(group.patterns(), ", ")});
  }
  return table.Render(style);
}

std::string GroupStory(const v1::ListDivergenceGroupsResponse& groups, const Style& style) {
  std::string text;
  const auto field = [&](absl::string_view name, absl::string_view value) {
    absl::StrAppend(
        &text, Cut(absl::StrCat(Paint(name, Color::kBold, style), std::string(12 - name.size(), ' '), value), style),
        "\n");
  };
  for (const v1::DivergenceGroup& group : groups.groups()) {
    if (!text.empty()) text += "\n";
    absl::StrAppend(&text, Paint(absl::StrCat("group ", Printable(group.fingerprint())), Color::kRed, style), "  ",
                    Printable(group.endpoint()), "\n\n");
    bool first = true;
    for (const std::string& pattern : group.patterns()) {
      field(first ? "differs" : "", Printable(pattern));
      first = false;
    }
    field("since", absl::StrCat(When(group.first_at_us(), style), ", last ", When(group.last_at_us(), style)));
    field("found", absl::StrCat(Plural(group.divergences(), "divergence"), " of ", Plural(group.tenants(), "tenant"),
                                ", ", Plural(group.keys(), "key"), ", ", Plural(group.reads_affected(), "read")));
    if (!group.unsafe().empty()) {
      field("unsafe",
            Paint(absl::StrCat(UnsafeWords(group.unsafe()), ": the family is off the cache, for every tenant"),
                  Color::kRed, style));
    }
    first = true;
    for (const std::string& key : group.example_keys()) {
      field(first ? "keys" : "", Printable(key));
      first = false;
    }
    if (group.keys() > static_cast<uint64_t>(group.example_keys_size())) {
      field("", absl::StrCat("and ", Count(group.keys() - group.example_keys_size()), " more"));
    }
    field("cause",
          absl::StrCat(Paint(CauseWords(Printable(group.cause())), Color::kRed, style),
                       group.cause_evidence().empty() ? "" : absl::StrCat(": ", Printable(group.cause_evidence()))));
    field("next", Printable(group.advice()));
    field("", absl::StrCat("the newest in full: shadowline divergences show ", Printable(group.example_id())));
  }
  return text;
}

std::string DivergenceTable(const v1::ListDivergencesResponse& divergences, const Style& style) {
  if (divergences.divergences().empty()) return "No divergences.\n";
  Table table({{"ID"},
               {"TENANT"},
               {"ENDPOINT"},
               {"CAUSE"},
               {"DIFFERS", Align::kRight},
               {"READS", Align::kRight},
               {"SERVED BY"},
               {"CONFIRMED"},
               {"GROUP"}});
  for (const v1::Divergence& divergence : divergences.divergences()) {
    table.AddRow({divergence.id(), divergence.tenant(), divergence.endpoint(),
                  Cell(CauseWords(divergence.cause()), Color::kRed), Count(divergence.differences_total()),
                  Count(divergence.reads_affected()),
                  divergence.after_cutover() ? Cell("cache", Color::kRed) : Cell("database"),
                  When(divergence.confirmed_at_us(), style), divergence.fingerprint()});
  }
  return table.Render(style);
}

std::string ReplayText(const v1::ReplayDivergenceResponse& replay, const Style& style) {
  const bool read = replay.verdict() != "not_read";
  const bool cached = read && replay.verdict() != "not_cached";
  Cell headline = {"they say the same now", Color::kGreen};
  if (replay.verdict() == "excused") headline = {"they say the same now, under the endpoint's rules", Color::kGreen};
  if (replay.verdict() == "differs") headline = {"they differ", Color::kRed};
  if (replay.verdict() == "errored") headline = {"what the database says is not JSON", Color::kYellow};
  if (replay.verdict() == "not_cached") headline = {"nothing is cached for this read now", Color::kYellow};
  if (!read) headline = {"only the application can make this read again; this is what was kept of it", Color::kYellow};
  std::string text = absl::StrCat(Paint(headline.text, headline.color, style), "\n\n");

  std::vector<std::pair<std::string, std::string>> lines;
  if (read) {
    lines.emplace_back("database", absl::StrCat(replay.control_found() ? "has an answer" : "has no such row",
                                                ", snapshot ", Printable(replay.control_snapshot())));
  } else {
    lines.emplace_back("key", Printable(replay.key()));
  }
  if (cached) {
    const std::string age =
        replay.age_us() < 0 ? "" : absl::StrCat(", loaded ", Human(absl::Microseconds(replay.age_us())), " ago");
    lines.emplace_back("cache",
                       absl::StrCat(replay.candidate_found() ? "has an answer" : "says there is no such row", age));
    lines.emplace_back("fill", absl::StrCat(Printable(replay.fill()),
                                            replay.same_fill() ? ", the one that was confirmed to be wrong"
                                                               : ", another than was confirmed to be wrong"));
  }
  lines.emplace_back("catalog", absl::StrCat("revision ", Count(replay.catalog_revision())));
  for (const auto& [name, value] : lines) absl::StrAppend(&text, absl::StrFormat("%-8s", name), "  ", value, "\n");
  if (replay.differences().empty()) return text;
  absl::StrAppend(&text, "\n", Differences(replay.differences()).Render(style));
  const uint64_t shown = static_cast<uint64_t>(replay.differences_size());
  if (replay.differences_total() > shown) {
    absl::StrAppend(&text, "and ", Count(replay.differences_total() - shown), " more\n");
  }
  return text;
}

std::string DivergenceStory(const v1::Divergence& divergence, const Style& style) {
  const v1::Proof& proof = divergence.proof();
  std::string text;
  const auto line = [&](absl::string_view content = "") { absl::StrAppend(&text, Cut(content, style), "\n"); };
  const auto field = [&](absl::string_view name, absl::string_view value) {
    line(absl::StrCat(Paint(name, Color::kBold, style), std::string(12 - name.size(), ' '), value));
  };
  const auto table = [&](const Table& rows) {
    Style inner = style;
    if (inner.width > 2) inner.width -= 2;
    for (const std::string& row : rows.Lines(inner)) line(absl::StrCat("  ", row));
  };

  line(absl::StrCat(Paint(absl::StrCat("divergence ", Printable(divergence.id())), Color::kRed, style), "  ",
                    Printable(divergence.endpoint()), "  tenant ", Printable(divergence.tenant()), "  confirmed ",
                    When(divergence.confirmed_at_us(), style)));
  line();

  field("differs", absl::StrCat(Plural(divergence.differences_total(), "difference"), ", group ",
                                Printable(divergence.fingerprint())));
  if (!divergence.differences().empty()) {
    table(Differences(divergence.differences()));
    if (divergence.differences_total() > static_cast<uint64_t>(divergence.differences_size())) {
      line(absl::StrCat("  and ", Count(divergence.differences_total() - divergence.differences_size()), " more"));
    }
  }
  line();

  if (!divergence.unsafe().empty()) {
    field("unsafe",
          Paint(absl::StrCat(UnsafeWords(divergence.unsafe()), ": the family is off the cache, for every tenant"),
                Color::kRed, style));
  }
  field("key", Printable(divergence.key()));
  // When an application loaded what it has cached is not known: then the read is where time begins.
  const bool fill_known = proof.filled_at_us() != 0;
  const std::string begin = fill_known ? "the fill" : "the read";
  const int64_t begin_us = fill_known ? proof.filled_at_us() : proof.served_at_us();
  field("fill", absl::StrCat(Printable(divergence.fill()),
                             fill_known ? absl::StrCat(", loaded ", When(begin_us, style)) : ", by the application"));
  const std::optional<int64_t> since = FirstDifference(proof);
  if (since.has_value()) field("wrong since", absl::StrCat(When(*since, style), " at the latest"));
  field("served by", divergence.after_cutover() ? "the cache: callers got the wrong answer"
                                                : "the database: no caller got the wrong answer");
  field("reads", absl::StrCat(Plural(divergence.reads_affected(), "read"),
                              divergence.after_cutover() ? " answered with it" : " would have been answered with it"));
  line();

  // The tags are the heart of it: an invalidation between fill and proof would have replaced the value.
  field("tags", proof.tags().empty() ? "none are known" : "and when each was last invalidated");
  bool between = false;
  if (!proof.tags().empty()) {
    Table rows({{"TAG"}, {"LAST INVALIDATED"}, {"THAT IS"}});
    for (const v1::TagHistory& tag : proof.tags()) {
      const int64_t at = tag.last_invalidated_at_us();
      const bool after_fill = at > begin_us;
      between |= after_fill;
      rows.AddRow({tag.tag(), at == 0 ? "never" : When(at, style),
                   at == 0      ? "-"
                   : after_fill ? absl::StrCat(Human(absl::Microseconds(at - begin_us)), " after ", begin)
                                : absl::StrCat(Human(absl::Microseconds(begin_us - at)), " before ", begin)});
    }
    table(rows);
    if (fill_known) {
      line(between ? "  A tag was invalidated after the fill, and this value was served all the same."
                   : "  No tag was invalidated between the fill and the divergence.");
    }
  }
  line();

  field("timeline", absl::StrCat("seconds since ", begin, "; the freshness bound is ",
                                 Human(absl::Microseconds(proof.freshness_us()))));
  struct Event {
    int64_t at_us;
    Cell what;
    std::string snapshot;
  };
  std::vector<Event> events;
  if (fill_known) events.push_back({begin_us, "loaded from the database into the cache", ""});
  if (proof.served_at_us() != 0) events.push_back({proof.served_at_us(), "the sampled read was answered", ""});
  for (const v1::TagHistory& tag : proof.tags()) {
    if (tag.last_invalidated_at_us() > begin_us) {
      events.push_back({tag.last_invalidated_at_us(), absl::StrCat("tag ", tag.tag(), " invalidated"), ""});
    }
  }
  for (const v1::Observation& observation : proof.observations()) {
    events.push_back({observation.candidate_at_us(),
                      observation.same_fill() ? "the cache serves this fill" : "the cache serves another fill", ""});
    events.push_back({observation.control_at_us(),
                      observation.differed() ? Cell("the database holds another value", Color::kRed)
                                             : Cell("the database holds the same value", Color::kGreen),
                      observation.snapshot()});
  }
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.at_us < b.at_us; });
  Table timeline({{"AT", Align::kRight}, {"WHAT WAS SEEN"}, {"SNAPSHOT"}});
  for (const Event& event : events) timeline.AddRow({Offset(event.at_us, begin_us), event.what, event.snapshot});
  table(timeline);
  line();

  field("cause",
        absl::StrCat(
            Paint(CauseWords(Printable(divergence.cause())), Color::kRed, style),
            divergence.cause_evidence().empty() ? "" : absl::StrCat(": ", Printable(divergence.cause_evidence()))));
  bool first = true;
  for (const std::string& step : NextSteps(divergence)) {
    field(first ? "next" : "", Printable(step));
    first = false;
  }
  return text;
}

}  // namespace shadowline::console
