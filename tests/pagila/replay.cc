#include "tests/pagila/replay.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <iterator>
#include <numeric>
#include <regex>
#include <stdexcept>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/executor.h"
#include "shadowline/v1/catalog.grpc.pb.h"

namespace shadowline::pagila {
namespace {

using support::Judgement;

// For what another process does in its own time, and has no way to tell.
template <typename Condition>
void Await(const std::string& what, Condition condition) {
  for (int i = 0; i < 1200; ++i) {
    if (condition()) return;
    usleep(50'000);
  }
  throw std::runtime_error("waited a minute for " + what);
}

void Check(const std::string& step, const grpc::Status& status) {
  if (!status.ok())
    throw std::runtime_error(absl::StrCat(step, ": ", status.error_code(), " ", status.error_message()));
}

std::string FileText(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// As PostgreSQL reads a text[].
std::string ArrayText(const std::vector<std::string>& texts) {
  return absl::StrCat(
      "{",
      absl::StrJoin(texts, ",",
                    [](std::string* out, const std::string& text) {
                      absl::StrAppend(out, "\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
                    }),
      "}");
}

std::string Show(const Question& question) {
  return absl::StrCat(question.endpoint(), " of ", question.tenant(), " (",
                      absl::StrJoin(question.parameters(), ", ",
                                    [&](std::string* out, const auto& parameter) {
                                      absl::StrAppend(out, parameter.name(), "=",
                                                      ParameterText(question, parameter.name()));
                                    }),
                      ")");
}

}  // namespace

Oracle::Oracle(const std::string& catalog, const std::vector<Question>* questions, pqxx::connection* connection)
    : questions_(questions) {
  // Renders as Shadowline's sessions do.
  pqxx::nontransaction(*connection).exec("SET TimeZone = 'UTC'; SET search_path = public");
  for (const auto& family : YAML::Load(catalog)["families"]) {
    families_.insert(family.first.as<std::string>());
    for (const auto& declared : family.second["endpoints"]) {
      Endpoint endpoint;
      std::string sql = declared.second["sql"].as<std::string>();
      // The parameters of each question are a row of `question_`, and the statement's variables its columns.
      std::vector<std::string> columns = {"tenant"};
      sql = std::regex_replace(sql, std::regex("(^|[^:]):tenant\\b"), "$1question_.tenant");
      for (const auto& parameter : declared.second["parameters"]) {
        const std::string name = parameter.first.as<std::string>();
        const bool integer = parameter.second["type"].as<std::string>() == "integer";
        sql = std::regex_replace(sql, std::regex("(^|[^:]):" + name + "\\b"),
                                 "$1question_." + name + (integer ? "::bigint" : ""));
        endpoint.parameters.push_back(name);
        columns.push_back(name);
      }
      for (const auto& tag : declared.second["tags"]) endpoint.tags.push_back(tag.as<std::string>());
      const bool rows = declared.second["result"] && declared.second["result"].as<std::string>() == "rows";
      std::vector<std::string> arrays;
      for (size_t i = 1; i <= columns.size(); ++i) arrays.push_back(absl::StrCat("$", i, "::text[]"));
      const std::string name = absl::StrCat(family.first.as<std::string>(), "/", declared.first.as<std::string>());
      connection->prepare(
          name, absl::StrCat("SELECT (SELECT ",
                             rows ? "coalesce(json_agg(row_to_json(answer)), '[]')" : "row_to_json(answer)",
                             "::text FROM (", sql, "\n) AS answer) FROM unnest(", absl::StrJoin(arrays, ", "),
                             ") WITH ORDINALITY AS question_ (", absl::StrJoin(columns, ", "), ", nth) ORDER BY nth"));
      endpoints_[name] = std::move(endpoint);
    }
  }
}

std::vector<std::string> Oracle::Answers(pqxx::transaction_base& work, const std::vector<size_t>& questions) const {
  std::map<std::string, std::vector<size_t>> by_endpoint;  // Places in `questions`.
  for (size_t i = 0; i < questions.size(); ++i) by_endpoint[(*questions_)[questions[i]].endpoint()].push_back(i);
  std::vector<std::string> answers(questions.size());
  for (const auto& [name, places] : by_endpoint) {
    std::vector<std::string> tenants;
    for (size_t place : places) tenants.push_back((*questions_)[questions[place]].tenant());
    std::vector<std::string> arguments = {ArrayText(tenants)};
    for (const std::string& parameter : endpoints_.at(name).parameters) {
      std::vector<std::string> values;
      for (size_t place : places) values.push_back(ParameterText((*questions_)[questions[place]], parameter));
      arguments.push_back(ArrayText(values));
    }
    const pqxx::result result = work.exec_prepared(name, pqxx::prepare::make_dynamic_params(arguments));
    for (size_t i = 0; i < places.size(); ++i) {
      answers[places[i]] = result[static_cast<pqxx::result::size_type>(i)][0].as<std::string>("");
    }
  }
  return answers;
}

std::vector<std::string> Oracle::Tags(const Question& question) const {
  const Endpoint& endpoint = endpoints_.at(question.endpoint());
  std::vector<std::string> tags = endpoint.tags;
  for (std::string& tag : tags) {
    for (const std::string& parameter : endpoint.parameters) {
      tag = absl::StrReplaceAll(tag, {{absl::StrCat("{", parameter, "}"), ParameterText(question, parameter)}});
    }
  }
  return tags;
}

Replay::Replay(Application* application)
    : application_(application),
      connection_(application->database()),
      oracle_(FileText(application->catalog()), &application->questions(), &connection_),
      server_({.name = "replay",
               .source = application->database(),
               .redis = "unix:" + redis_.socket(),
               .extra_config = "controller:\n  tick: 100ms\nevidence:\n  flush: 200ms\n",
               .await_ready = false}) {
  const std::vector<Question>& questions = application_->questions();
  for (size_t i = 0; i < questions.size(); ++i) {
    for (const std::string& tag : oracle_.Tags(questions[i])) tagged_[{questions[i].tenant(), tag}].push_back(i);
  }
  {
    std::vector<size_t> all(questions.size());
    std::iota(all.begin(), all.end(), 0);
    pqxx::work work(connection_);
    judge_ = std::make_unique<support::Judge>(oracle_.Answers(work, all), kFreshness);
  }
  const auto channel = grpc::CreateChannel(server_.address(), grpc::InsecureChannelCredentials());
  reads_ = shadowline::v1::ReadService::NewStub(channel);
  cache_ = shadowline::v1::CacheService::NewStub(channel);
  rollouts_ = shadowline::v1::RolloutService::NewStub(channel);
  flags_ = shadowline::v1::FlagService::NewStub(channel);
  divergences_ = shadowline::v1::DivergenceService::NewStub(channel);
  {
    shadowline::v1::ApplyCatalogRequest request;
    request.set_yaml(FileText(application_->catalog()));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    shadowline::v1::ApplyCatalogResponse response;
    Check("apply", shadowline::v1::CatalogService::NewStub(channel)->ApplyCatalog(&context, request, &response));
  }
  server_.AwaitReady();
  for (const std::string& family : oracle_.families()) Promote(family);
}

void Replay::Promote(const std::string& family) {
  std::set<std::string> tenants;
  for (const Question& question : application_->questions()) tenants.insert(question.tenant());
  shadowline::v1::Rollout rollout;
  {
    shadowline::v1::StartRolloutRequest request;
    request.set_family(family);
    auto* cohort = request.add_cohorts();
    cohort->set_name("in use");
    cohort->mutable_tenants()->Assign(tenants.begin(), tenants.end());
    request.mutable_policy()->add_ramp_ppm(1'000'000);
    request.mutable_policy()->set_cache_sample_ppm(100'000);
    grpc::ClientContext context;
    Check("start " + family, rollouts_->StartRollout(&context, request, &rollout));
  }
  Await("the promotion of " + family, [&] {
    shadowline::v1::ListFlagsRequest request;
    request.set_family(family);
    grpc::ClientContext context;
    shadowline::v1::ListFlagsResponse response;
    Check("flags", flags_->ListFlags(&context, request, &response));
    size_t promoted = 0;
    for (const auto& flag : response.flags()) {
      if (flag.mode() == shadowline::v1::MODE_CACHE && flag.serve_ppm() == 1'000'000) ++promoted;
    }
    if (promoted == tenants.size()) return true;
    // The controller opens the cohort's windows first; until then, and while it changes, the command is refused.
    shadowline::v1::RolloutCommand command;
    command.set_rollout(rollout.id());
    command.set_who("replay");
    command.set_reason("the replay tests the cache, not the way to it");
    grpc::ClientContext again;
    rollouts_->PromoteRollout(&again, command, &rollout);
    return false;
  });
}

void Replay::Run(size_t threads) {
  std::atomic<size_t> next{0};
  std::atomic<bool> broken{false};
  std::string failure;
  std::vector<std::thread> running;
  for (size_t i = 0; i < threads; ++i) {
    running.push_back(base::StartThread(absl::StrCat("replay-", i), [&] {
      try {
        for (size_t at = next++; at < application_->operations().size() && !broken; at = next++) {
          const Operation& operation = application_->operations()[at];
          if (operation.kind == Operation::kRead) {
            Read(operation.question);
          } else {
            Write(operation, Invalidation::kSent);
          }
        }
      } catch (const std::exception& error) {
        if (!broken.exchange(true)) failure = error.what();
      }
    }));
  }
  for (std::thread& thread : running) thread.join();
  if (broken) throw std::runtime_error(failure);
}

Replay::Answer Replay::Read(size_t question) {
  Answer answer;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const absl::Duration sent = clock_.Steady();
  answer.status = reads_->Read(&context, application_->questions()[question], &answer.response);
  const absl::Duration received = clock_.Steady();
  answer.opinion = judge_->Of(question, answer.response.body(), sent, received);
  const bool wrong = answer.opinion.judgement != Judgement::kRight;

  base::MutexLock lock(&mutex_);
  ++totals_.reads;
  std::string fault;
  if (!answer.status.ok()) {
    ++totals_.failed;
    fault = absl::StrCat(answer.status.error_code(), " ", answer.status.error_message());
  } else {
    totals_.hits += answer.response.source() == shadowline::v1::SOURCE_CACHE;
    totals_.wrong += wrong;
    totals_.older_than_invalidation += answer.opinion.older_than_invalidation;
    if (wrong) fault = std::string(JudgementName(answer.opinion.judgement));
    if (answer.opinion.older_than_invalidation) absl::StrAppend(&fault, " older than an acknowledged invalidation");
  }
  if (!fault.empty() && totals_.first_fault.empty()) {
    totals_.first_fault =
        absl::StrCat(Show(application_->questions()[question]), ": ", fault, ": ", answer.response.body(), " age ",
                     answer.response.age_us(), "us, source ", answer.response.source());
  }
  return answer;
}

void Replay::Write(const Operation& operation, Invalidation invalidation) {
  std::vector<shadowline::v1::InvalidateRequest> requests;
  std::map<size_t, int64_t> versions;  // Of the questions that the write may have changed.
  {
    base::MutexLock lock(&writing_);
    pqxx::work work(connection_);
    requests =
        application_->Write(work, operation.kind, application_->questions()[operation.question], ++writes_begun_);
    for (const auto& request : requests) {
      for (const std::string& tag : request.tags()) {
        const auto found = tagged_.find({request.tenant(), tag});
        if (found == tagged_.end()) continue;
        for (size_t question : found->second) versions[question] = 0;
      }
    }
    std::vector<size_t> questions;
    for (const auto& [question, version] : versions) questions.push_back(question);
    const std::vector<std::string> answers = oracle_.Answers(work, questions);
    const absl::Duration begun = clock_.Steady();
    for (size_t i = 0; i < questions.size(); ++i) {
      versions[questions[i]] = judge_->Committing(questions[i], answers[i], begun);
    }
    work.commit();
    const absl::Duration ended = clock_.Steady();
    for (const auto& [question, version] : versions) judge_->Committed(question, version, ended);
  }
  for (const auto& request : requests) {
    if (invalidation == Invalidation::kForgotten) break;
    if (invalidation == Invalidation::kSent) Invalidate(request);
    const absl::Duration acknowledged = clock_.Steady();
    for (const std::string& tag : request.tags()) {
      const auto found = tagged_.find({request.tenant(), tag});
      if (found == tagged_.end()) continue;
      for (size_t question : found->second) judge_->Invalidated(question, versions.at(question), acknowledged);
    }
  }
  base::MutexLock lock(&mutex_);
  ++totals_.writes;
}

void Replay::Invalidate(const shadowline::v1::InvalidateRequest& request) {
  Await("an invalidation", [&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    shadowline::v1::InvalidateResponse response;
    const bool done = cache_->Invalidate(&context, request, &response).ok();
    retries_ += !done;
    return done;
  });
}

Replay::Totals Replay::totals() const {
  base::MutexLock lock(&mutex_);
  Totals totals = totals_;
  totals.retries = retries_;
  return totals;
}

shadowline::v1::Report Replay::SettledReport(const std::string& family) {
  shadowline::v1::Report report;
  Await("the verdicts of " + family, [&] {
    shadowline::v1::GetReportRequest request;
    request.set_family(family);
    grpc::ClientContext context;
    Check("report", divergences_->GetReport(&context, request, &report));
    return report.ledger().pending() == 0;
  });
  return report;
}

std::ostream& operator<<(std::ostream& out, const Replay::Totals& totals) {
  return out << totals.reads << " reads, " << totals.writes << " writes, hit ratio "
             << (totals.reads == 0 ? 0.0 : static_cast<double>(totals.hits) / static_cast<double>(totals.reads))
             << ", wrong answers " << totals.wrong << ", older than invalidation " << totals.older_than_invalidation
             << ", failed reads " << totals.failed << ", invalidations sent again " << totals.retries
             << (totals.first_fault.empty() ? "" : "; first fault: ") << totals.first_fault;
}

}  // namespace shadowline::pagila
