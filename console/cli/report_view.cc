#include "console/cli/report_view.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "console/cli/divergence_view.h"
#include "console/cli/rollout_view.h"

namespace shadowline::console {
namespace {

Color ColorOf(v1::Mode mode) {
  return mode == v1::MODE_CACHE ? Color::kGreen : mode == v1::MODE_SHADOW ? Color::kYellow : Color::kPlain;
}

std::string LedgerText(const v1::Ledger& ledger, const Style& style) {
  Table table({{"VERDICT"}, {"READS", Align::kRight}, {"SHARE", Align::kRight}, {"MEANING"}});
  const auto row = [&](const char* name, uint64_t count, const char* meaning, Color color = Color::kPlain) {
    table.AddRow({Cell(name, count == 0 ? Color::kDim : color), Cell(Count(count), count == 0 ? Color::kDim : color),
                  Cell(Share(count, ledger.sampled()), count == 0 ? Color::kDim : Color::kPlain),
                  Cell(meaning, Color::kDim)});
  };
  row("matched", ledger.matched(), "the same", Color::kGreen);
  row("excused", ledger.excused(), "the same under the endpoint's declared rules");
  row("healed", ledger.healed(), "differed, and was replaced within the freshness bound");
  row("confirmed", ledger.confirmed(), "wrong, with proof", Color::kRed);
  row("inconclusive", ledger.inconclusive(), "still undecided after the last look", Color::kYellow);
  row("errored", ledger.errored(), "one side failed", Color::kYellow);
  row("shed", ledger.shed(), "not judged: verification was over its budget", Color::kYellow);
  row("lost", ledger.lost(), "not judged: a replica ended before it could", Color::kYellow);
  row("pending", ledger.pending(), "being judged");
  const int64_t rest = Unaccounted(ledger);
  const std::string balance =
      rest == 0 ? Paint("balances", Color::kGreen, style)
                : Paint(absl::StrCat("does not balance: ", rest, " unaccounted for"), Color::kRed, style);
  return absl::StrCat(table.Render(style), Cut(absl::StrCat("sampled ", Count(ledger.sampled()), ": ", balance), style),
                      "\n");
}

std::string EstimateTable(const v1::Report& report, const Style& style) {
  Table table({{"TENANT"},
               {"STAND FOR", Align::kRight},
               {"WRONG", Align::kRight},
               {"95 % INTERVAL", Align::kRight},
               {"WRONG OF JUDGED, BY WHAT THEY WERE"}});
  for (const v1::TargetReport& target : report.targets()) {
    if (!target.has_estimate()) continue;
    const v1::Estimate& estimate = target.estimate();
    const auto percent = [](double ppm) { return absl::StrFormat("%.3g %%", ppm / 10'000); };
    std::vector<std::string> strata;
    for (const v1::StratumReport& stratum : target.strata()) {
      if (stratum.judged() == 0) continue;
      strata.push_back(absl::StrCat(stratum.name(), " ", Count(stratum.confirmed()), " of ", Count(stratum.judged())));
    }
    table.AddRow(
        {target.tenant(), absl::StrCat(Count(estimate.reads()), " reads"),
         Cell(percent(estimate.wrong_ppm()), estimate.wrong_ppm() > 0 ? Color::kRed : Color::kPlain),
         estimate.has_low_ppm() ? absl::StrCat(percent(estimate.low_ppm()), " to ", percent(estimate.high_ppm())) : "-",
         strata.empty() ? "-" : absl::StrJoin(strata, "; ")});
  }
  return table.Render(style);
}

// What an endpoint says differently by itself.
std::string NoiseText(const v1::Report& report, const Style& style) {
  Table table({{"ENDPOINT"},
               {"WHERE"},
               {"PAIRS", Align::kRight},
               {"DIFFERED", Align::kRight},
               {"SHARE", Align::kRight},
               {"95 % BETWEEN"}});
  for (const v1::Noise& noise : report.noise()) {
    const Color color = noise.differed() == 0 ? Color::kDim : noise.pattern().empty() ? Color::kPlain : Color::kYellow;
    table.AddRow({Cell(noise.endpoint(), color), Cell(noise.pattern().empty() ? "anywhere" : noise.pattern(), color),
                  Cell(Count(noise.pairs()), color), Cell(Count(noise.differed()), color),
                  Cell(Share(noise.differed(), noise.pairs()), color),
                  Cell(absl::StrCat(Percent(noise.low_ppm()), " and ", Percent(noise.high_ppm())), color)});
  }
  return absl::StrCat(table.Render(style),
                      Cut("what two readings of one snapshot say differently: no fault of the cache", style), "\n");
}

std::string ReasonWords(v1::ReadReason reason) {
  switch (reason) {
    case v1::READ_REASON_MODE_DATABASE:
      return "the target is read from the database";
    case v1::READ_REASON_MODE_SHADOW:
      return "the cache is being judged";
    case v1::READ_REASON_CACHE_HIT:
      return "the cache had it";
    case v1::READ_REASON_CACHE_MISS:
      return "the cache had none";
    case v1::READ_REASON_OUTSIDE_RAMP:
      return "this key is outside the ramp's share";
    case v1::READ_REASON_CONSISTENCY:
      return "a fresh answer was asked for";
    case v1::READ_REASON_LEASE_LAPSED:
      return "the replica's flag lease lapsed";
    case v1::READ_REASON_CACHE_UNAVAILABLE:
      return "the cache is away or slow, or change capture is";
    default:
      return "no reason was given";
  }
}

}  // namespace

int64_t Unaccounted(const v1::Ledger& ledger) {
  return static_cast<int64_t>(ledger.sampled()) -
         static_cast<int64_t>(ledger.matched() + ledger.excused() + ledger.healed() + ledger.confirmed() +
                              ledger.inconclusive() + ledger.errored() + ledger.shed() + ledger.lost() +
                              ledger.pending());
}

std::string ReportText(const v1::Report& report, const Style& style) {
  std::string text = Cut(absl::StrCat(Paint(Printable(report.family()), Color::kBold, style), ": catalog revision ",
                                      Count(report.catalog_revision()), ", as of ", When(report.at_us(), style)),
                         style);
  const auto section = [&](absl::string_view name) {
    absl::StrAppend(&text, "\n", Paint(name, Color::kBold, style), "\n");
  };
  absl::StrAppend(&text, "\n");
  section("Ledger");
  absl::StrAppend(&text, LedgerText(report.ledger(), style));

  section("Targets");
  if (report.targets().empty()) {
    absl::StrAppend(&text, "None.\n");
  } else {
    Table table({{"TENANT"},
                 {"MODE"},
                 {"CACHE", Align::kRight},
                 {"WINDOW", Align::kRight},
                 {"SINCE"},
                 {"SAMPLED", Align::kRight},
                 {"EPISODES", Align::kRight},
                 {"KEYS", Align::kRight},
                 {"AFTER A WRITE", Align::kRight},
                 {"WRONG", Align::kRight},
                 {"MISSING"}});
    for (const v1::TargetReport& target : report.targets()) {
      const uint64_t wrong = target.ledger().confirmed();
      const bool judged = target.mode() != v1::MODE_DATABASE || target.window() != 0;
      table.AddRow({target.tenant(), Cell(Word(target.mode()), ColorOf(target.mode())),
                    target.mode() == v1::MODE_CACHE ? Percent(target.serve_ppm()) : "-",
                    target.window() == 0 ? "-" : Count(target.window()), When(target.window_since_us(), style),
                    Count(target.ledger().sampled()), Count(target.episodes()), Count(target.distinct_keys()),
                    Count(target.exercised()), Cell(Count(wrong), wrong == 0 ? Color::kPlain : Color::kRed),
                    !target.missing().empty() ? Cell(absl::StrJoin(target.missing(), "; "))
                    : judged                  ? Cell("clean", Color::kGreen)
                                              : Cell("-")});
    }
    absl::StrAppend(&text, table.Render(style));
  }

  if (std::any_of(report.targets().begin(), report.targets().end(),
                  [](const v1::TargetReport& target) { return target.has_estimate(); })) {
    section("Estimated of all reads");
    absl::StrAppend(&text, EstimateTable(report, style));
  }

  section("Divergence groups");
  absl::StrAppend(&text, report.groups().empty() ? "None.\n" : GroupTable(report.groups(), style));

  if (!report.noise().empty()) {
    section("Noise");
    absl::StrAppend(&text, NoiseText(report, style));
  }

  section("Flips");
  if (report.flips().empty()) {
    absl::StrAppend(&text, "None.\n");
  } else {
    Table table({{"WHEN"}, {"TENANT"}, {"FROM"}, {"TO"}, {"WHO"}, {"RECEIPT"}, {"WHY"}});
    for (const v1::Flip& flip : report.flips()) {
      table.AddRow({When(flip.at_us(), style), flip.tenant(), flip.from(), flip.to(), flip.who(),
                    flip.receipt_id().empty() ? "-" : flip.receipt_id(), flip.why()});
    }
    absl::StrAppend(&text, table.Render(style));
  }
  return text;
}

std::string FlagTable(const v1::ListFlagsResponse& flags, const Style& style) {
  if (flags.flags().empty()) return "No flags.\n";
  Table table({{"FAMILY"},
               {"TENANT"},
               {"MODE"},
               {"CACHE", Align::kRight},
               {"SAMPLED", Align::kRight},
               {"EPOCH", Align::kRight},
               {"WINDOW", Align::kRight},
               {"REVISION", Align::kRight},
               {"CHANGED"},
               {"WHY"}});
  for (const v1::Flag& flag : flags.flags()) {
    table.AddRow({flag.family(), flag.tenant(), Cell(Word(flag.mode()), ColorOf(flag.mode())),
                  flag.mode() == v1::MODE_CACHE ? Percent(flag.serve_ppm()) : "-", Percent(flag.sample_ppm()),
                  Count(flag.epoch()), flag.window() == 0 ? "-" : Count(flag.window()), Count(flag.revision()),
                  When(flag.changed_at_us(), style), flag.reason()});
  }
  return table.Render(style);
}

std::string FlagText(const v1::Flag& flag, const Style& style) {
  v1::ListFlagsResponse one;
  *one.add_flags() = flag;
  return FlagTable(one, style);
}

std::string ChangeLines(const v1::ApplyCatalogResponse& response, const Style& style) {
  std::string text;
  for (const std::string& change : response.changes()) {
    const char sign = change.empty() ? ' ' : change[0];
    const Color color = sign == '+'   ? Color::kGreen
                        : sign == '-' ? Color::kRed
                        : sign == '~' ? Color::kYellow
                                      : Color::kPlain;
    absl::StrAppend(&text, Paint(Printable(change), color, style), "\n");
  }
  return text;
}

std::string ReadOrigin(const v1::ReadResponse& response) {
  const absl::string_view source = response.source() == v1::SOURCE_CACHE        ? "cache"
                                   : response.source() == v1::SOURCE_NEAR_CACHE ? "near cache"
                                   : response.source() == v1::SOURCE_DATABASE   ? "database"
                                                                                : "unknown source";
  return absl::StrCat(source, ", ",
                      response.age_us() < 0    ? "of unknown age"
                      : response.age_us() == 0 ? "read just now"
                                               : absl::StrCat(Human(absl::Microseconds(response.age_us())), " old"),
                      ": ", ReasonWords(response.reason()), " (flag revision ", Count(response.flag_revision()),
                      ", etag ", absl::StrFormat("%016x", response.etag()), response.found() ? ")" : ", not found)");
}

}  // namespace shadowline::console
