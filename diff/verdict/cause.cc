#include "diff/verdict/cause.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace shadowline::diff {
namespace {

constexpr size_t kTagsNamed = 8;
// So many keys that go wrong within a second were not forgotten one by one.
constexpr size_t kBurst = 50;

std::string Stamp(absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()); }

std::string TagNames(const CauseInputs& inputs) {
  const size_t named = std::min(inputs.tags.size(), kTagsNamed);
  std::string names = absl::StrJoin(inputs.tags.begin(), inputs.tags.begin() + named, ", ",
                                    [](std::string* out, const auto& tag) { absl::StrAppend(out, tag.first); });
  if (named < inputs.tags.size()) absl::StrAppend(&names, " and ", inputs.tags.size() - named, " more");
  return names;
}

std::pair<std::string, absl::Time> LastInvalidated(const CauseInputs& inputs) {
  return *std::max_element(inputs.tags.begin(), inputs.tags.end(),
                           [](const auto& a, const auto& b) { return a.second < b.second; });
}

Cause CauseInAStranger(const CauseInputs& inputs) {
  const std::string how = inputs.named ? "The answer names another owner than the tenant it was served to"
                                       : "What was served is, to the value, what the database lately said to";
  switch (inputs.stranger) {
    case Stranger::kAnotherTenant:
      return {"cross_tenant", inputs.named ? absl::StrCat(how, ".") : absl::StrCat(how, " another tenant.")};
    case Stranger::kAnotherIdentity:
      return {"cross_tenant", absl::StrCat(how, " somebody else of the same tenant.")};
    case Stranger::kOtherParameters:
    case Stranger::kNobody:
      break;
  }
  return {"key_collision", absl::StrCat(how, " other parameters of the same tenant.")};
}

// Shadowline's fences keep nothing out of an application's cache: all that they tell is when something was written.
Cause CauseInTheApplication(const CauseInputs& inputs) {
  const bool negative = !inputs.candidate_found && inputs.control_found;
  std::string evidence = absl::StrCat("The application's cache ", negative ? "said \"not found\"" : "held this answer",
                                      " at ", Stamp(inputs.filled_at), " and still at ", Stamp(inputs.confirmed_at));
  std::string name = negative ? "negative_stale" : "stale_entry";
  if (!inputs.tags.empty()) {
    const auto [tag, at] = LastInvalidated(inputs);
    if (at != absl::InfinitePast()) absl::StrAppend(&evidence, "; tag ", tag, " was invalidated at ", Stamp(at));
    // It was told, and kept its answer. Of an earlier invalidation nobody knows whether the answer was stored after it.
    if (at >= inputs.filled_at) name = "missed_invalidation";
  }
  return {std::move(name), absl::StrCat(evidence, ".")};
}

}  // namespace

bool IsOtherShape(const std::vector<std::string>& patterns) {
  return !patterns.empty() && std::all_of(patterns.begin(), patterns.end(), [](absl::string_view pattern) {
    const size_t colon = pattern.rfind(": ");
    if (colon == absl::string_view::npos) return false;
    const absl::string_view path = pattern.substr(0, colon);
    const absl::string_view kind = pattern.substr(colon + 2);
    return !path.empty() && !absl::EndsWith(path, "/*") && (kind == "missing" || kind == "extra" || kind == "type");
  });
}

Cause ProbableCause(const CauseInputs& inputs) {
  if (inputs.stranger != Stranger::kNobody || inputs.named) return CauseInAStranger(inputs);
  if (inputs.versions == Versions::kSame) {
    return {"same_version",
            "The database says otherwise under the very version that the cached answer bears: something changed the "
            "answer on its way into the cache, or the version does not grow with every change."};
  }
  if (inputs.versions == Versions::kNewer) {
    return {"never_held",
            "The cached answer bears a newer version than the database's, which was asked later: it was cached before "
            "its transaction was committed, or that was rolled back; or it is another database's; or this one was set "
            "back."};
  }
  if (IsOtherShape(inputs.patterns)) {
    return {"schema_skew",
            "Members are missing, new or of another type, and no value differs: a program of another version, or a "
            "statement from before a change, made the cached answer."};
  }
  if (inputs.external) return CauseInTheApplication(inputs);
  if (inputs.tags.empty()) {
    return {"unknown", "The tags of this key are not known, so its invalidations are not either."};
  }
  const std::string span = absl::StrCat("between the fill at ", Stamp(inputs.filled_at), " and the confirmation at ",
                                        Stamp(inputs.confirmed_at));
  const auto last = LastInvalidated(inputs);
  if (last.second >= inputs.filled_at) {
    return {"fill_race", absl::StrCat("Tag ", last.first, " was invalidated at ", Stamp(last.second), ", ", span,
                                      ", and the fill survived it.")};
  }
  const bool negative = !inputs.candidate_found && inputs.control_found;
  std::string evidence = absl::StrCat("No tag of this key (", TagNames(inputs), ") was invalidated ", span, ".");
  if (inputs.captured.has_value() && !inputs.captured->any) {
    return {"hidden_input",
            absl::StrCat("No captured table was written for this key ", span,
                         ", and the database's answer changed all the same: it depends on the time, on a table that is "
                         "not captured, or on something else that is no parameter.")};
  }
  if (inputs.captured.has_value()) {
    absl::StrAppend(&evidence, " Transaction ", inputs.captured->transaction, " wrote to what it depends on, at ",
                    Stamp(inputs.captured->at), ".");
  }
  if (negative) {
    return {"negative_stale", absl::StrCat("The cache says \"not found\", the database has a row. ", evidence)};
  }
  if (inputs.burst >= kBurst && inputs.confirmed_at - inputs.burst_since <= inputs.freshness + absl::Seconds(1)) {
    return {"out_of_band_writer",
            absl::StrCat(inputs.burst, " keys of this endpoint and tenant went wrong at once, since ",
                         Stamp(inputs.burst_since), ": one write that told nobody. ", evidence)};
  }
  return {"missed_invalidation", std::move(evidence)};
}

std::string AdviceOn(absl::string_view cause, const std::vector<std::string>& tags) {
  const std::string named =
      tags.empty() ? "the tags of the endpoint" : absl::StrCat("'", absl::StrJoin(tags, "' or '"), "'");
  if (cause == "missed_invalidation") {
    return absl::StrCat("find what writes this data, and let it call Invalidate with ", named,
                        " after its commit, or capture its table");
  }
  if (cause == "out_of_band_writer") {
    return absl::StrCat("find the bulk write, migration or other program that wrote then, and let it invalidate ",
                        named, "; change capture needs nobody's help");
  }
  if (cause == "fill_race") {
    return "invalidate after the commit, never before it: this value was loaded in between; an application that fills "
           "its cache itself has to compare before it sets";
  }
  if (cause == "negative_stale") {
    return absl::StrCat("let the writer that creates the row call Invalidate with ", named,
                        ", or shorten the life of \"not found\"");
  }
  if (cause == "stale_entry") {
    return "find what writes this data, and let the application remove or replace the entry after the commit: "
           "Shadowline never writes it";
  }
  if (cause == "hidden_input") {
    return "find what else the statement reads: now(), a setting, a table that is not captured; make it a parameter, "
           "capture it, or shorten the ttl";
  }
  if (cause == "key_collision") {
    return "put what the answer depends on into the application's key: two parameter sets share it";
  }
  if (cause == "same_version") {
    return "find what stores other values than it has read: a partial update, a conversion, another program under the "
           "same key; or let the version grow with every change of the answer";
  }
  if (cause == "never_held") {
    return "fill the cache after the commit, with what is read then; where that is so, look for another environment "
           "that shares this Redis, or for a database that was set back";
  }
  if (cause == "cross_tenant") {
    return "keep the family off the cache; find which key lacks the tenant or the identity, or which connection "
           "answers with another request's reply; drop what is cached";
  }
  if (cause == "schema_skew") {
    return "finish the deploy, raise `schema` (or the version in the application's key), and drop what was written "
           "before";
  }
  return "compare the times with what was written then; the report shows whether it is one key or many";
}

}  // namespace shadowline::diff
