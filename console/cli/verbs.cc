#include "console/cli/verbs.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/wrappers.pb.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "console/cli/arguments.h"
#include "console/cli/cache_view.h"
#include "console/cli/compare.h"
#include "console/cli/divergence_view.h"
#include "console/cli/report_view.h"
#include "console/cli/rollout_view.h"

namespace shadowline::console {
namespace {

// A divergence's id has twice as many.
constexpr size_t kFingerprintDigits = 16;
constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);

// A whole file, or standard input for "-".
absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const auto cannot = [&] {
    return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      path == "-" ? fdopen(dup(STDIN_FILENO), "rb") : std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return cannot();
  std::string content;
  char buffer[65536];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, file.get())) content.append(buffer, count);
  if (std::ferror(file.get()) != 0) return cannot();
  return content;
}

std::string Json(const google::protobuf::Message& message, bool one_line) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = !one_line;
  std::string text;
  if (const auto status = google::protobuf::util::MessageToJsonString(message, &text, options); !status.ok()) {
    text = "{}";
  }
  if (text.empty() || text.back() != '\n') text += '\n';
  return text;
}

// A JSON text that stands for `content`.
std::string JsonText(const std::string& content) {
  google::protobuf::StringValue value;
  value.set_value(content);
  return std::string(absl::StripTrailingAsciiWhitespace(Json(value, /*one_line=*/true)));
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kBadInput;
    case absl::StatusCode::kNotFound:
      return kNoInput;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnimplemented:
      return kUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return kTimedOut;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kResourceExhausted:
      return kTryAgain;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return kRefused;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kNoPermission;
    default:
      return kInternal;
  }
}

Verbs::Verbs(const GlobalOptions& options, Output* output)
    : options_(options), output_(*output), client_(options.server, options.timeout.value_or(kDefaultTimeout)) {}

int Verbs::Fail(const absl::Status& status, int exit_code) {
  output_.Error(status.message().empty() ? absl::StatusCodeToString(status.code()) : status.message());
  return exit_code;
}

int Verbs::FailCatalog(const std::string& file, const absl::Status& status) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return Fail(status);
  std::string text;
  for (const absl::string_view line : absl::StrSplit(status.message(), '\n', absl::SkipEmpty())) {
    absl::StrAppend(&text, file, absl::ascii_isdigit(line[0]) ? ":" : ": ", line, "\n");
  }
  output_.Error(absl::StrCat(text, file, " was not applied"));
  return kBadInput;
}

int Verbs::AddParameters(const std::vector<std::string>& texts,
                         google::protobuf::RepeatedPtrField<v1::Parameter>* parameters) {
  for (const std::string& text : texts) {
    absl::StatusOr<v1::Parameter> parameter = ParseParameter(text);
    if (!parameter.ok()) return Fail(base::Annotate(parameter.status(), "parameter"), kUsage);
    *parameters->Add() = *std::move(parameter);
  }
  return 0;
}

void Verbs::WriteJson(const google::protobuf::Message& message, bool one_line) {
  output_.Write(Json(message, one_line));
}

template <typename Reply>
int Verbs::Show(const absl::StatusOr<Reply>& reply,
                const std::function<std::string(const Reply&, const Style&)>& text) {
  if (!reply.ok()) return Fail(reply.status());
  if (options_.json) {
    WriteJson(*reply);
  } else {
    output_.Write(text(*reply, output_.style()));
  }
  return 0;
}

int Verbs::ShowRollout(const absl::StatusOr<v1::Rollout>& rollout, bool with_policy) {
  return Show<v1::Rollout>(rollout, [&](const v1::Rollout& it, const Style& style) {
    std::string text = absl::StrCat(absl::StrJoin(RolloutTree(it, style), "\n"), "\n");
    if (with_policy)
      absl::StrAppend(&text, "\n", Paint("policy", Color::kBold, style), "  ", PolicyText(it.policy()), "\n");
    return text;
  });
}

int Verbs::Apply(const std::string& file, bool dry_run, const std::string& who) {
  absl::StatusOr<std::string> yaml = ReadFile(file);
  if (!yaml.ok()) return Fail(yaml.status());
  v1::ApplyCatalogRequest request;
  request.set_yaml(*std::move(yaml));
  request.set_dry_run(dry_run);
  request.set_who(who);
  const absl::StatusOr<v1::ApplyCatalogResponse> reply = client_.ApplyCatalog(request);
  if (!reply.ok()) return FailCatalog(file, reply.status());
  return Show<v1::ApplyCatalogResponse>(reply, [&](const v1::ApplyCatalogResponse& it, const Style& style) {
    return absl::StrCat(ChangeLines(it, style), "catalog revision ", Count(it.revision()),
                        !it.changed() ? " is active already: nothing to change\n"
                        : dry_run     ? " would be active (dry run: nothing was stored)\n"
                                      : " is active\n");
  });
}

int Verbs::Diff(const std::string& file) {
  absl::StatusOr<std::string> yaml = ReadFile(file);
  if (!yaml.ok()) return Fail(yaml.status());
  v1::ApplyCatalogRequest request;
  request.set_yaml(*std::move(yaml));
  request.set_dry_run(true);
  const absl::StatusOr<v1::ApplyCatalogResponse> reply = client_.ApplyCatalog(request);
  if (!reply.ok()) return FailCatalog(file, reply.status());
  const int code = Show<v1::ApplyCatalogResponse>(reply, ChangeLines);
  return code == 0 && reply->changed() ? kDiffers : code;
}

int Verbs::GetCatalog() {
  const absl::StatusOr<v1::GetCatalogResponse> reply = client_.GetCatalog();
  // To stderr, so that `shadowline get catalog > catalog.yaml` is the document that was applied.
  if (reply.ok() && !options_.json) {
    output_.Note(absl::StrCat(
        "catalog revision ", Count(reply->revision()), ", applied ", When(reply->applied_at_us(), output_.style()),
        reply->applied_by().empty() ? "" : absl::StrCat(" by ", Printable(reply->applied_by())), "\n"));
  }
  return Show<v1::GetCatalogResponse>(reply, [](const v1::GetCatalogResponse& it, const Style&) { return it.yaml(); });
}

int Verbs::GetFlag(const std::string& tenant, const std::string& family) {
  v1::GetFlagRequest request;
  request.set_tenant(tenant);
  request.set_family(family);
  return Show<v1::Flag>(client_.GetFlag(request), FlagText);
}

int Verbs::ListFlags(const std::string& tenant, const std::string& family) {
  v1::ListFlagsRequest request;
  request.set_tenant(tenant);
  request.set_family(family);
  return Show<v1::ListFlagsResponse>(client_.ListFlags(request), FlagTable);
}

int Verbs::StartRollout(const std::string& family, const std::vector<std::string>& cohorts,
                        const std::vector<std::string>& policy, const std::string& who, const std::string& reason) {
  v1::StartRolloutRequest request;
  request.set_family(family);
  for (const std::string& text : cohorts) {
    absl::StatusOr<v1::Cohort> cohort = ParseCohort(text);
    if (!cohort.ok()) return Fail(base::Annotate(cohort.status(), "--cohort"), kUsage);
    *request.add_cohorts() = *std::move(cohort);
  }
  for (const std::string& text : policy) {
    const absl::Status status = ParsePolicyOverride(text, request.mutable_policy());
    if (!status.ok()) return Fail(base::Annotate(status, "--policy"), kUsage);
  }
  request.set_who(who);
  request.set_reason(reason);
  return ShowRollout(client_.StartRollout(request), /*with_policy=*/true);
}

int Verbs::ListRollouts(const std::string& family, bool ended) {
  v1::ListRolloutsRequest request;
  request.set_family(family);
  request.set_ended(ended);
  return Show<v1::ListRolloutsResponse>(client_.ListRollouts(request), RolloutTable);
}

int Verbs::GetRollout(const std::string& rollout) {
  v1::GetRolloutRequest request;
  request.set_rollout(rollout);
  return ShowRollout(client_.GetRollout(request), /*with_policy=*/true);
}

int Verbs::WatchRollout(const std::string& name, bool through_stops) {
  v1::GetRolloutRequest request;
  request.set_rollout(name);
  const absl::Duration timeout = options_.timeout.value_or(absl::InfiniteDuration());
  const bool live = output_.is_terminal() && !options_.json;
  std::optional<v1::Rollout> last;
  std::optional<int> result;

  const auto write_lines = [&](const std::vector<std::string>& lines) {
    for (const std::string& line : lines) output_.Write(absl::StrCat(line, "\n"));
  };
  const absl::Status status = client_.WatchRollout(request, timeout, [&](const v1::Rollout* rollout) {
    if (options_.json) {
      if (rollout != nullptr) WriteJson(*rollout, /*one_line=*/true);
    } else if (!live && rollout != nullptr) {
      write_lines(RolloutChanges(last.has_value() ? &*last : nullptr, *rollout, output_.style()));
    }
    if (rollout != nullptr) {
      last = *rollout;
      result = WatchResult(rollout->state());
      if (result == kInconclusive && through_stops) result.reset();
    }
    // Also when nothing came: ages grow, and windows are resized.
    if (live && last.has_value()) {
      const int height = output_.height() - 1;
      std::vector<std::string> lines = RolloutTree(*last, output_.style(), height);
      if (static_cast<int>(lines.size()) > height) lines.resize(static_cast<size_t>(std::max(1, height)));
      output_.Redraw(lines);
    }
    return !result.has_value() && !output_.closed() && output_.failure().empty();
  });

  if (!live && !options_.json && last.has_value()) {
    output_.Write("\n");
    write_lines(RolloutTree(*last, output_.style()));
  }
  if (result.has_value()) return *result;
  if (status.code() == absl::StatusCode::kDeadlineExceeded) {
    output_.Error(last.has_value() ? absl::StrCat(last->family(), " is still ", Word(last->state()), " after ",
                                                  Human(timeout), "; it goes on without being watched")
                                   : absl::StrCat(options_.server, " sent no rollout within ", Human(timeout)));
    return kTimedOut;
  }
  if (!status.ok()) return Fail(status);
  return kNoOutput;  // The reader left before the rollout ended.
}

int Verbs::Command(absl::StatusOr<v1::Rollout> (Client::*call)(const v1::RolloutCommand&),
                   const v1::RolloutCommand& command) {
  return ShowRollout((client_.*call)(command), /*with_policy=*/false);
}

int Verbs::ListDivergenceGroups(const std::string& family, uint32_t limit) {
  v1::ListDivergenceGroupsRequest request;
  request.set_family(family);
  request.set_limit(limit);
  return Show<v1::ListDivergenceGroupsResponse>(
      client_.ListDivergenceGroups(request),
      [](const v1::ListDivergenceGroupsResponse& it, const Style& style) { return GroupTable(it.groups(), style); });
}

int Verbs::ListDivergences(const v1::ListDivergencesRequest& request) {
  return Show<v1::ListDivergencesResponse>(client_.ListDivergences(request), DivergenceTable);
}

int Verbs::ShowDivergence(const std::string& id) {
  if (id.size() == kFingerprintDigits) {
    v1::ListDivergenceGroupsRequest request;
    request.set_fingerprint(id);
    absl::StatusOr<v1::ListDivergenceGroupsResponse> groups = client_.ListDivergenceGroups(request);
    if (groups.ok() && groups->groups().empty()) {
      groups = absl::NotFoundError(absl::StrCat("divergence group ", id, " does not exist"));
    }
    return Show<v1::ListDivergenceGroupsResponse>(groups, GroupStory);
  }
  v1::GetDivergenceRequest request;
  request.set_id(id);
  return Show<v1::Divergence>(client_.GetDivergence(request), DivergenceStory);
}

int Verbs::ReplayDivergence(const std::string& id) {
  v1::ReplayDivergenceRequest request;
  request.set_id(id);
  const absl::StatusOr<v1::ReplayDivergenceResponse> reply = client_.ReplayDivergence(request);
  const int code = Show<v1::ReplayDivergenceResponse>(reply, ReplayText);
  if (code != 0) return code;
  if (reply->verdict() == "matched" || reply->verdict() == "excused") return 0;
  return reply->verdict() == "differs" ? kDiffers : kCannotJudge;
}

int Verbs::ShowReport(const std::string& family) {
  v1::GetReportRequest request;
  request.set_family(family);
  return Show<v1::Report>(client_.GetReport(request), ReportText);
}

int Verbs::Read(const std::string& tenant, const std::string& endpoint, const std::vector<std::string>& parameters,
                bool fresh) {
  v1::ReadRequest request;
  request.set_tenant(tenant);
  request.set_endpoint(endpoint);
  if (fresh) request.set_consistency(v1::CONSISTENCY_FRESH);
  if (const int code = AddParameters(parameters, request.mutable_parameters()); code != 0) return code;
  const absl::StatusOr<v1::ReadResponse> reply = client_.Read(request);
  const int code = Show<v1::ReadResponse>(
      reply, [](const v1::ReadResponse& it, const Style&) { return it.found() ? absl::StrCat(it.body(), "\n") : ""; });
  if (code != 0) return code;
  if (!options_.json) output_.Note(absl::StrCat(ReadOrigin(*reply), "\n"));
  return reply->found() ? 0 : kDiffers;
}

int Verbs::InspectCache(const std::string& tenant, const std::string& endpoint,
                        const std::vector<std::string>& parameters) {
  v1::InspectRequest request;
  request.set_tenant(tenant);
  request.set_endpoint(endpoint);
  if (const int code = AddParameters(parameters, request.mutable_parameters()); code != 0) return code;
  const absl::StatusOr<v1::InspectResponse> reply = client_.Inspect(request);
  const int code = Show<v1::InspectResponse>(reply, InspectionText);
  return code == 0 && reply->state() != v1::InspectResponse::STATE_ANSWER ? kDiffers : code;
}

int Verbs::Invalidate(const std::string& tenant, const std::vector<std::string>& tags,
                      const std::vector<uint64_t>& transactions) {
  v1::InvalidateRequest request;
  request.set_tenant(tenant);
  for (const std::string& tag : tags) request.add_tags(tag);
  request.mutable_transactions()->Assign(transactions.begin(), transactions.end());
  return Show<v1::InvalidateResponse>(client_.Invalidate(request), [](const v1::InvalidateResponse& it, const Style&) {
    return absl::StrCat(Plural(it.tags_fenced(), "tag"), " fenced\n");
  });
}

int Verbs::Purge(const v1::PurgeRequest& request) {
  return Show<v1::PurgeResponse>(client_.Purge(request), [&](const v1::PurgeResponse& it, const Style&) {
    if (it.targets() == 0) return std::string("nothing to drop: no target is read from the cache or judged\n");
    return absl::StrCat(Plural(it.targets(), "target"), " of ", Printable(request.family()),
                        it.targets() == 1 ? " has a new epoch" : " have a new epoch",
                        "; no replica answers with what was cached before\n");
  });
}

int Verbs::Warm(const std::string& tenant, const std::vector<std::string>& tags) {
  v1::WarmRequest request;
  request.set_tenant(tenant);
  for (const std::string& tag : tags) request.add_tags(tag);
  return Show<v1::WarmResponse>(client_.Warm(request), [](const v1::WarmResponse& it, const Style&) {
    if (it.keys() == 0) return std::string("nothing to load: this replica remembers no read under these tags\n");
    return absl::StrCat(Plural(it.keys(), "key"), it.keys() == 1 ? " is" : " are", " being loaded\n");
  });
}

int Verbs::Compare(const std::string& file_a, const std::string& file_b, const std::string& rules_or_file,
                   const std::string& descriptors, const std::string& message, bool patch) {
  std::string rules;
  if (absl::StartsWith(rules_or_file, "{")) {
    rules = rules_or_file;
  } else if (!rules_or_file.empty()) {
    absl::StatusOr<std::string> content = ReadFile(rules_or_file);
    if (!content.ok()) return Fail(content.status());
    rules = *std::move(content);
  }
  std::ostringstream out;
  std::ostringstream err;
  if (patch) {
    const int code = PatchFiles(file_a, file_b, rules, out, err);
    if (!err.str().empty()) output_.Error(err.str());
    output_.Write(out.str());
    return code;
  }
  if (options_.json && message.empty()) {
    const absl::StatusOr<std::string> a = ReadFile(file_a);
    if (!a.ok()) return Fail(a.status());
    const absl::StatusOr<std::string> b = ReadFile(file_b);
    if (!b.ok()) return Fail(b.status());
    // Line ends of the rules are between their tokens, since no JSON text has a raw one inside.
    std::istringstream pair(absl::StrCat("{\"id\":null,\"a\":", JsonText(*a), ",\"b\":", JsonText(*b), ",\"rules\":",
                                         rules.empty() ? "{}" : absl::StrReplaceAll(rules, {{"\n", " "}}), "}"));
    CompareJsonLines(pair, out);
    output_.Write(out.str());
    const auto is = [&](absl::string_view verdict) {
      return absl::StartsWith(out.str(), absl::StrCat("{\"id\":null,\"verdict\":\"", verdict, "\""));
    };
    return is("equal") ? 0 : is("differ") ? kDiffers : kCannotJudge;
  }
  const int code = message.empty() ? CompareFiles(file_a, file_b, rules, out, err)
                                   : CompareMessages(file_a, file_b, descriptors, message, rules, out, err);
  if (!err.str().empty()) output_.Error(err.str());
  for (const absl::string_view line : absl::StrSplit(out.str(), '\n', absl::SkipEmpty())) {
    output_.Write(absl::StrCat(Printable(line), "\n"));
  }
  return code;
}

int Verbs::CompareLines() { return CompareJsonLines(std::cin, std::cout) == 0 ? 0 : kNoOutput; }

}  // namespace shadowline::console
