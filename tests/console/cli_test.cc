// The real binary against a server that answers as each test says: exit codes, JSON, errors, streams, terminals, and
// that docs/cli.md lists the verbs that exist.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pty.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/support/private_servers.h"

namespace shadowline {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Binary() { return absl::StrCat(std::getenv("SHADOWLINE_BIN_DIR"), "/shadowline"); }

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n', absl::SkipEmpty()); }

// Every service; each call is answered by what the test set, or refused.
class FakeServer final : public v1::RolloutService::Service,
                         public v1::CatalogService::Service,
                         public v1::FlagService::Service,
                         public v1::CacheService::Service,
                         public v1::DivergenceService::Service,
                         public v1::ReadService::Service {
 public:
  FakeServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<v1::RolloutService::Service*>(this));
    builder.RegisterService(static_cast<v1::CatalogService::Service*>(this));
    builder.RegisterService(static_cast<v1::FlagService::Service*>(this));
    builder.RegisterService(static_cast<v1::CacheService::Service*>(this));
    builder.RegisterService(static_cast<v1::DivergenceService::Service*>(this));
    builder.RegisterService(static_cast<v1::ReadService::Service*>(this));
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() override { server_->Shutdown(gpr_time_0(GPR_CLOCK_MONOTONIC)); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  grpc::Status answer;  // Of every call that is not OK by itself.
  v1::StartRolloutRequest started;
  v1::RolloutCommand command;
  v1::ApplyCatalogResponse applied;
  v1::ListFlagsResponse flags;
  v1::ReadRequest read;
  v1::ReadResponse reading;
  v1::InspectRequest inspect;
  v1::InspectResponse inspection;
  v1::ReplayDivergenceResponse replayed;
  v1::InvalidateRequest invalidate;
  v1::PurgeRequest purge;
  uint64_t purged = 0;
  v1::WarmRequest warm;
  // What the n-th watch sends. The last one stays open, unless its rollouts end.
  std::vector<std::vector<v1::RolloutState>> watches;
  size_t watched = 0;

  static v1::Rollout MakeRollout(v1::RolloutState state) {
    v1::Rollout rollout;
    rollout.set_id("41");
    rollout.set_family("pricing");
    rollout.set_state(state);
    rollout.set_eta_us(-1);
    rollout.add_cohorts()->set_name("canary");
    v1::RolloutTarget* target = rollout.add_targets();
    target->set_tenant("acme");
    target->set_cohort("canary");
    target->set_state(state == v1::ROLLOUT_STATE_SETTLED ? v1::TARGET_STATE_SETTLED : v1::TARGET_STATE_SHADOW);
    target->set_mode(v1::MODE_SHADOW);
    target->set_eta_us(-1);
    return rollout;
  }

 private:
  grpc::Status StartRollout(grpc::ServerContext*, const v1::StartRolloutRequest* request, v1::Rollout* reply) override {
    started = *request;
    *reply = MakeRollout(v1::ROLLOUT_STATE_RUNNING);
    return answer;
  }
  grpc::Status GetRollout(grpc::ServerContext*, const v1::GetRolloutRequest*, v1::Rollout* reply) override {
    *reply = MakeRollout(v1::ROLLOUT_STATE_RUNNING);
    return answer;
  }
  grpc::Status RollbackRollout(grpc::ServerContext*, const v1::RolloutCommand* request, v1::Rollout* reply) override {
    command = *request;
    *reply = MakeRollout(v1::ROLLOUT_STATE_ROLLED_BACK);
    return answer;
  }
  grpc::Status WatchRollout(grpc::ServerContext* context, const v1::GetRolloutRequest*,
                            grpc::ServerWriter<v1::Rollout>* writer) override {
    if (!answer.ok()) return answer;
    const size_t index = watched++;
    for (const v1::RolloutState state : watches.at(index)) writer->Write(MakeRollout(state));
    if (index + 1 < watches.size()) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining");
    // Writing is how a synchronous handler notices that the caller has gone.
    while (!context->IsCancelled() && writer->Write(MakeRollout(watches.at(index).back()))) {
    }
    return grpc::Status::OK;
  }
  grpc::Status ApplyCatalog(grpc::ServerContext*, const v1::ApplyCatalogRequest* request,
                            v1::ApplyCatalogResponse* reply) override {
    *reply = applied;
    return answer;
  }
  grpc::Status GetCatalog(grpc::ServerContext*, const v1::GetCatalogRequest*, v1::GetCatalogResponse* reply) override {
    reply->set_revision(7);
    reply->set_yaml("version: 1\n");
    return answer;
  }
  grpc::Status ListFlags(grpc::ServerContext*, const v1::ListFlagsRequest*, v1::ListFlagsResponse* reply) override {
    *reply = flags;
    return answer;
  }
  grpc::Status Read(grpc::ServerContext*, const v1::ReadRequest* request, v1::ReadResponse* reply) override {
    read = *request;
    *reply = reading;
    return answer;
  }

  grpc::Status Inspect(grpc::ServerContext*, const v1::InspectRequest* request, v1::InspectResponse* reply) override {
    inspect = *request;
    *reply = inspection;
    return answer;
  }
  grpc::Status ReplayDivergence(grpc::ServerContext*, const v1::ReplayDivergenceRequest* request,
                                v1::ReplayDivergenceResponse* reply) override {
    *reply = replayed;
    reply->set_id(request->id());
    return answer;
  }
  grpc::Status Invalidate(grpc::ServerContext*, const v1::InvalidateRequest* request,
                          v1::InvalidateResponse* reply) override {
    invalidate = *request;
    reply->set_tags_fenced(request->tags_size());
    return answer;
  }
  grpc::Status Purge(grpc::ServerContext*, const v1::PurgeRequest* request, v1::PurgeResponse* reply) override {
    purge = *request;
    reply->set_targets(purged);
    return answer;
  }
  grpc::Status Warm(grpc::ServerContext*, const v1::WarmRequest* request, v1::WarmResponse* reply) override {
    warm = *request;
    reply->set_keys(12);
    return answer;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

struct Result {
  int exit_code = -1;  // -1: it was killed by a signal.
  std::string out;
  std::string err;
};

class CliTest : public ::testing::Test {
 protected:
  // Runs the binary with the fake server as its default; `prepare` may redirect its streams.
  Result Run(std::vector<std::string> arguments,
             const std::function<void(posix_spawn_file_actions_t*)>& prepare = nullptr) {
    const std::string out = scratch_.path() + "/out";
    const std::string err = scratch_.path() + "/err";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (prepare) prepare(&actions);
    arguments.insert(arguments.begin(), Binary());
    std::vector<std::string> environment = {absl::StrCat("SHADOWLINE_SERVER=", server_.address()), "USER=ana",
                                            "LANG=C.UTF-8", "TERM=xterm"};
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (std::string& entry : environment) envp.push_back(entry.data());
    envp.push_back(nullptr);
    pid_t pid = 0;
    const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), envp.data());
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) ADD_FAILURE() << "cannot start " << argv[0];
    return {WaitFor(pid), Contents(out), Contents(err)};
  }

  // Runs it on a terminal of 24 lines and 80 columns; `out` is what the terminal got.
  Result RunOnTerminal(std::vector<std::string> arguments, const char* no_color = "") {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = 80;
    int master = -1;
    arguments.insert(arguments.begin(), Binary());
    std::vector<std::string> environment = {absl::StrCat("SHADOWLINE_SERVER=", server_.address()), "USER=ana",
                                            "LANG=C.UTF-8", "TERM=xterm", absl::StrCat("NO_COLOR=", no_color)};
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (std::string& entry : environment) envp.push_back(entry.data());
    envp.push_back(nullptr);
    const pid_t pid = forkpty(&master, nullptr, nullptr, &size);
    if (pid == 0) {
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
    Result result;
    char buffer[4096];
    for (ssize_t count; (count = read(master, buffer, sizeof buffer)) > 0;) {
      result.out.append(buffer, static_cast<size_t>(count));
    }
    close(master);
    result.exit_code = WaitFor(pid);
    return result;
  }

  static int WaitFor(pid_t pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  support::ScratchFolder scratch_{"cli"};
  FakeServer server_;
};

TEST_F(CliTest, WatchEndsWithTheRolloutAndItsExitCodeSaysHow) {
  const std::vector<std::pair<v1::RolloutState, int>> ends = {{v1::ROLLOUT_STATE_SETTLED, 0},
                                                              {v1::ROLLOUT_STATE_ROLLED_BACK, 1},
                                                              {v1::ROLLOUT_STATE_ABORTED, 1},
                                                              {v1::ROLLOUT_STATE_STOPPED, 3}};
  for (const auto& [state, code] : ends) {
    server_.watched = 0;
    server_.watches = {{v1::ROLLOUT_STATE_RUNNING, state}};
    const Result result = Run({"rollout", "watch", "pricing"});
    EXPECT_EQ(result.exit_code, code) << result.out << result.err;
    EXPECT_THAT(result.out, HasSubstr("pricing: running -> "));
    EXPECT_THAT(result.out, Not(HasSubstr("\x1b")));
  }
}

TEST_F(CliTest, WatchTimesOutAndSaysThatTheRolloutGoesOn) {
  server_.watches = {{v1::ROLLOUT_STATE_RUNNING}};
  const Result result = Run({"rollout", "watch", "pricing", "--timeout", "300ms"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "shadowline: pricing is still running after 300 ms; it goes on without being watched\n");
}

TEST_F(CliTest, WatchGoesThroughStopsWhenAskedTo) {
  server_.watches = {{v1::ROLLOUT_STATE_STOPPED, v1::ROLLOUT_STATE_RUNNING, v1::ROLLOUT_STATE_SETTLED}};
  EXPECT_EQ(Run({"rollout", "watch", "pricing", "--through-stops"}).exit_code, 0);
}

TEST_F(CliTest, WatchOutlivesAReplicaThatDrains) {
  server_.watches = {{v1::ROLLOUT_STATE_RUNNING}, {v1::ROLLOUT_STATE_SETTLED}};
  const Result result = Run({"rollout", "watch", "pricing"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(server_.watched, 2u);
}

TEST_F(CliTest, WatchAsJsonIsOneDocumentALine) {
  server_.watches = {{v1::ROLLOUT_STATE_RUNNING, v1::ROLLOUT_STATE_SETTLED}};
  const Result result = Run({"rollout", "watch", "pricing", "-o", "json"});
  EXPECT_EQ(result.exit_code, 0);
  ASSERT_THAT(Lines(result.out), SizeIs(2));
  v1::Rollout rollout;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(Lines(result.out)[1], &rollout).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(rollout, FakeServer::MakeRollout(v1::ROLLOUT_STATE_SETTLED)));
}

TEST_F(CliTest, WatchRedrawsATerminalInPlace) {
  server_.watches = {{v1::ROLLOUT_STATE_RUNNING, v1::ROLLOUT_STATE_SETTLED}};
  const Result result = RunOnTerminal({"rollout", "watch", "pricing"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("\x1b[6A"));  // Back over the six lines of the first tree.
  EXPECT_THAT(result.out, HasSubstr("\x1b[32msettled\x1b[0m"));
}

TEST_F(CliTest, ColoursAreLeftOutWhereTheyAreNotWanted) {
  EXPECT_THAT(RunOnTerminal({"rollout", "get", "pricing"}).out, HasSubstr("\x1b["));
  EXPECT_THAT(RunOnTerminal({"rollout", "get", "pricing"}, "1").out, Not(HasSubstr("\x1b[")));
  EXPECT_THAT(RunOnTerminal({"rollout", "get", "pricing", "--no-color"}).out, Not(HasSubstr("\x1b[")));
}

TEST_F(CliTest, AWatchEndsWhenItsReaderHasLeft) {
  server_.watches = {{v1::ROLLOUT_STATE_RUNNING}};
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[0]);
  const Result result = Run({"rollout", "watch", "pricing"},
                            [&](auto* actions) { posix_spawn_file_actions_adddup2(actions, ends[1], 1); });
  close(ends[1]);
  EXPECT_EQ(result.exit_code, 74);
  EXPECT_EQ(result.err, "");
}

TEST_F(CliTest, AClosedStdoutIsNoCrash) {
  const auto close_stdout = [](auto* actions) { posix_spawn_file_actions_addclose(actions, 1); };
  EXPECT_EQ(Run({"flags", "list"}, close_stdout).exit_code, 0);
  EXPECT_EQ(Run({"--help"}, close_stdout).exit_code, 0);
}

TEST_F(CliTest, AFullDiskIsSaid) {
  const Result result = Run(
      {"flags", "list"}, [](auto* actions) { posix_spawn_file_actions_addopen(actions, 1, "/dev/full", O_WRONLY, 0); });
  EXPECT_EQ(result.exit_code, 74);
  EXPECT_EQ(result.err, "shadowline: cannot write the output: No space left on device\n");
}

TEST_F(CliTest, StartSendsWhatWasAskedFor) {
  const Result result =
      Run({"rollout", "start", "pricing", "--cohort", "canary=acme,globex", "--cohort", "5%", "--cohort", "rest",
           "--policy", "duration=10s", "--policy", "episodes=50", "--reason", "faster quotes"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(server_.started.family(), "pricing");
  ASSERT_EQ(server_.started.cohorts_size(), 3);
  EXPECT_THAT(server_.started.cohorts(0).tenants(), ElementsAre("acme", "globex"));
  EXPECT_EQ(server_.started.cohorts(1).share_ppm(), 50'000u);
  EXPECT_EQ(server_.started.cohorts(2).share_ppm(), 1'000'000u);
  EXPECT_EQ(server_.started.policy().duration(), "10s");
  EXPECT_EQ(server_.started.policy().episodes(), 50u);
  EXPECT_EQ(server_.started.who(), "ana");
  EXPECT_EQ(server_.started.reason(), "faster quotes");
}

TEST_F(CliTest, CommandsNameTheTargetAndWhoGaveThem) {
  EXPECT_EQ(Run({"rollout", "rollback", "pricing", "--tenant", "acme", "--who", "bob", "--reason", "x"}).exit_code, 0);
  EXPECT_EQ(server_.command.rollout(), "pricing");
  EXPECT_EQ(server_.command.tenant(), "acme");
  EXPECT_EQ(server_.command.who(), "bob");
}

TEST_F(CliTest, JsonIsTheReplyWithItsOwnNames) {
  v1::Flag* flag = server_.flags.add_flags();
  flag->set_tenant("acme");
  flag->set_family("pricing");
  flag->set_mode(v1::MODE_CACHE);
  flag->set_serve_ppm(250'000);
  server_.flags.set_revision(9);
  const Result result = Run({"flags", "list", "--output=json"});
  EXPECT_THAT(result.out, HasSubstr("\"serve_ppm\": 250000"));
  v1::ListFlagsResponse parsed;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(result.out, &parsed).ok()) << result.out;
  EXPECT_TRUE(MessageDifferencer::Equals(parsed, server_.flags));
}

TEST_F(CliTest, DiffSaysByItsExitCodeWhetherAnythingWouldChange) {
  const std::string file = scratch_.path() + "/catalog.yaml";
  std::ofstream(file) << "version: 1\n";
  EXPECT_EQ(Run({"diff", "-f", file}).exit_code, 0);
  server_.applied.set_changed(true);
  server_.applied.add_changes("+ pricing/quote");
  const Result result = Run({"diff", "-f", file});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "+ pricing/quote\n");
}

TEST_F(CliTest, FindingsInACatalogAreWhereAnEditorFindsThem) {
  const std::string file = scratch_.path() + "/catalog.yaml";
  std::ofstream(file) << "version: 1\n";
  server_.answer =
      grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "3:5: ttl: too short; expected 100ms or more\n9:1: x: unknown");
  const Result result = Run({"apply", "-f", file});
  EXPECT_EQ(result.exit_code, 65);
  EXPECT_EQ(result.err, absl::StrCat("shadowline: ", file, ":3:5: ttl: too short; expected 100ms or more\nshadowline: ",
                                     file, ":9:1: x: unknown\nshadowline: ", file, " was not applied\n"));
}

TEST_F(CliTest, ReadPrintsTheAnswerAndNotesItsOrigin) {
  server_.reading.set_found(true);
  server_.reading.set_body("{\"total\":1}");
  server_.reading.set_source(v1::SOURCE_DATABASE);
  server_.reading.set_reason(v1::READ_REASON_MODE_SHADOW);
  Result result = Run({"read", "acme", "pricing/quote", "account=42", "zip:text=01234"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "{\"total\":1}\n");
  EXPECT_THAT(result.err, StartsWith("database, read just now: the cache is being judged"));
  ASSERT_EQ(server_.read.parameters_size(), 2);
  EXPECT_EQ(server_.read.parameters(0).value().integer(), 42);
  EXPECT_EQ(server_.read.parameters(1).value().text(), "01234");

  server_.reading.clear_body();
  server_.reading.set_found(false);
  result = Run({"read", "acme", "pricing/quote"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
}

TEST_F(CliTest, InspectTakesParametersAsReadDoesAndSaysByItsExitCodeWhetherThereIsAnAnswer) {
  server_.inspection.set_key("sl:acme:k");
  server_.inspection.set_state(v1::InspectResponse::STATE_ANSWER);
  Result result = Run({"cache", "inspect", "acme", "pricing/quote", "account=42", "zip:text=01234"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("a value that would be an answer\n"));
  EXPECT_EQ(server_.inspect.tenant(), "acme");
  EXPECT_EQ(server_.inspect.endpoint(), "pricing/quote");
  ASSERT_EQ(server_.inspect.parameters_size(), 2);
  EXPECT_EQ(server_.inspect.parameters(0).value().integer(), 42);
  EXPECT_EQ(server_.inspect.parameters(1).value().text(), "01234");

  server_.inspection.set_state(v1::InspectResponse::STATE_ABSENT);
  result = Run({"cache", "inspect", "acme", "pricing/quote", "-o", "json"});
  EXPECT_EQ(result.exit_code, 1);
  v1::InspectResponse parsed;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(result.out, &parsed).ok()) << result.out;
  EXPECT_TRUE(MessageDifferencer::Equals(parsed, server_.inspection));
}

TEST_F(CliTest, ReplaySaysByItsExitCodeWhetherTheyDifferNow) {
  for (const auto& [verdict, code] : {std::pair("matched", 0), std::pair("excused", 0), std::pair("differs", 1),
                                      std::pair("not_cached", 2), std::pair("errored", 2), std::pair("not_read", 2)}) {
    server_.replayed.set_verdict(verdict);
    EXPECT_EQ(Run({"divergences", "replay", "d1"}).exit_code, code) << verdict;
  }
  const Result result = Run({"divergences", "replay", "d1", "-o", "json"});
  v1::ReplayDivergenceResponse parsed;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(result.out, &parsed).ok()) << result.out;
  EXPECT_EQ(parsed.id(), "d1");
  server_.answer = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "its parameters were not kept");
  EXPECT_EQ(Run({"divergences", "replay", "d1"}).exit_code, 76);
}

TEST_F(CliTest, InvalidateNamesTagsAndTransactions) {
  const Result result = Run({"cache", "invalidate", "acme", "--transaction", "740", "account:42", "--transaction",
                             "18446744073709551615", "prices:emea"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "2 tags fenced\n");
  EXPECT_THAT(server_.invalidate.tags(), ElementsAre("account:42", "prices:emea"));
  EXPECT_THAT(server_.invalidate.transactions(), ElementsAre(740u, UINT64_MAX));
}

TEST_F(CliTest, APurgeSaysWhoAndWhy) {
  server_.purged = 1;
  Result result = Run({"cache", "purge", "pricing", "--tenant", "acme", "--reason", "a partition was dropped"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("1 target of pricing has a new epoch"));
  EXPECT_EQ(server_.purge.family(), "pricing");
  EXPECT_EQ(server_.purge.tenant(), "acme");
  EXPECT_EQ(server_.purge.who(), "ana");
  EXPECT_EQ(server_.purge.reason(), "a partition was dropped");
  server_.answer = grpc::Status(grpc::StatusCode::NOT_FOUND, "family pricing is unknown");
  result = Run({"cache", "purge", "pricing", "--reason", "x", "-o", "json"});
  EXPECT_EQ(result.exit_code, 66);
  EXPECT_EQ(result.out, "");
}

TEST_F(CliTest, WarmSaysHowManyKeysAreLoaded) {
  EXPECT_EQ(Run({"cache", "warm", "acme", "prices:emea"}).out, "12 keys are being loaded\n");
  EXPECT_THAT(server_.warm.tags(), ElementsAre("prices:emea"));
  EXPECT_THAT(Run({"cache", "warm", "acme", "prices:emea", "-o", "json"}).out, HasSubstr("\"keys\": \"12\""));
}

TEST_F(CliTest, AnAbsentServerIsNamedWithTheRemedy) {
  // Bound and not listened to: it refuses, and nobody else can take it meanwhile.
  const int bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(bound, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(getsockname(bound, reinterpret_cast<sockaddr*>(&address), &length), 0);
  const int port = ntohs(address.sin_port);
  const Result result = Run({"get", "catalog", "--server", absl::StrCat("127.0.0.1:", port)});
  EXPECT_EQ(result.exit_code, 69);
  EXPECT_THAT(Lines(result.err), SizeIs(1));
  EXPECT_THAT(result.err, AllOf(StartsWith(absl::StrCat("shadowline: no server answers at 127.0.0.1:", port)),
                                HasSubstr("--server HOST:PORT or SHADOWLINE_SERVER"), HasSubstr("Connection refused")));
  close(bound);
}

TEST_F(CliTest, AStatusBecomesOneLineAndAnExitCode) {
  const std::vector<std::pair<grpc::StatusCode, int>> codes = {
      {grpc::StatusCode::NOT_FOUND, 66},
      {grpc::StatusCode::FAILED_PRECONDITION, 76},
      {grpc::StatusCode::ABORTED, 75},
      {grpc::StatusCode::UNAVAILABLE, 69},
      {grpc::StatusCode::PERMISSION_DENIED, 77},
      {grpc::StatusCode::INTERNAL, 70},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, 75},
      {grpc::StatusCode::INVALID_ARGUMENT, 65},
  };
  for (const auto& [code, exit_code] : codes) {
    server_.answer = grpc::Status(code, "rollout 41 \x1b[2J is away");
    const Result result = Run({"rollout", "get", "41"});
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "shadowline: rollout 41 \\x1b[2J is away\n");
  }
}

TEST_F(CliTest, AWrongCommandLineIsAUsageErrorAndReachesNoServer) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"foo"},
      {"rollout"},
      {"rollout", "foo"},
      {"rollout", "watch"},
      {"rollout", "watch", "pricing", "--timeout", "5"},
      {"rollout", "start", "pricing", "--cohort", "acme"},
      {"rollout", "start", "pricing", "--policy", "colour=red"},
      {"rollout", "promote", "pricing"},
      {"flags", "get", "acme"},
      {"flags", "list", "-o", "xml"},
      {"divergences", "list", "--limit", "0"},
      {"read", "acme", "pricing/quote", "42"},
      {"cache"},
      {"cache", "inspect", "acme", "pricing/quote", "42"},
      {"cache", "invalidate", "acme"},
      {"cache", "invalidate", "acme", "account:42", "--transaction", "-1"},
      {"cache", "purge", "pricing"},
      {"cache", "warm", "acme"},
      {"apply"},
      {"compare", "a.json"},
      {"compare", "a.json", "b.json", "--jsonl"},
  };
  for (const std::vector<std::string>& arguments : wrong) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_code, 64) << absl::StrJoin(arguments, " ") << ": " << result.out << result.err;
    EXPECT_THAT(Lines(result.err), SizeIs(1));
    EXPECT_THAT(result.err, StartsWith("shadowline: "));
  }
}

TEST_F(CliTest, AFileThatCannotBeReadIsNamed) {
  const Result missing = Run({"apply", "-f", "/nonexistent"});
  EXPECT_EQ(missing.exit_code, 66);
  EXPECT_EQ(missing.err, "shadowline: cannot read /nonexistent: No such file or directory\n");
  EXPECT_EQ(Run({"apply", "-f", scratch_.path()}).exit_code, 66);
}

TEST_F(CliTest, CompareNeedsNoServer) {
  const std::string a = scratch_.path() + "/a.json";
  const std::string b = scratch_.path() + "/b.json";
  const std::string rules = scratch_.path() + "/rules.json";
  std::ofstream(a) << R"({"total": 1, "at": 1})";
  std::ofstream(b) << R"({"total": 1, "at": 2})";
  std::ofstream(rules) << R"({"ignore": ["$.at"]})";
  EXPECT_EQ(Run({"compare", a, a}).exit_code, 0);
  const Result differ = Run({"compare", a, b});
  EXPECT_EQ(differ.exit_code, 1);
  EXPECT_THAT(differ.out, HasSubstr("/at"));
  EXPECT_EQ(Run({"compare", a, b, "--rules", rules}).exit_code, 0);
  const Result json = Run({"compare", a, b, "-o", "json"});
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_THAT(json.out, HasSubstr(R"("pointer":"/at")"));
  EXPECT_EQ(Run({"compare", a, b, "-o", "json", "--rules", rules}).exit_code, 0);
  EXPECT_EQ(Run({"compare", "/dev/null", b, "-o", "json"}).exit_code, 2);
  const Result folder = Run({"compare", a, scratch_.path()});
  EXPECT_EQ(folder.exit_code, 2);
  EXPECT_THAT(folder.err, HasSubstr("cannot be read"));

  const std::string pairs = scratch_.path() + "/pairs.jsonl";
  std::ofstream(pairs) << R"({"id": 7, "a": "1", "b": "2"})"
                       << "\n"
                       << R"({"id": "x", "a": "1", "b": "1.0"})"
                       << "\n";
  const Result lines = Run({"compare", "--jsonl"}, [&](auto* actions) {
    posix_spawn_file_actions_addopen(actions, 0, pairs.c_str(), O_RDONLY, 0);
  });
  EXPECT_EQ(lines.exit_code, 0);
  ASSERT_THAT(Lines(lines.out), SizeIs(2));
  EXPECT_THAT(Lines(lines.out)[0], HasSubstr(R"("id":7,"verdict":"differ")"));
  EXPECT_THAT(Lines(lines.out)[1], HasSubstr(R"("id":"x","verdict":"equal")"));
}

// The words of a verb: "rollout start FAMILY" is `rollout start`.
std::string VerbOf(absl::string_view usage) {
  std::vector<absl::string_view> words;
  for (const absl::string_view word : absl::StrSplit(usage, ' ', absl::SkipEmpty())) {
    if (!absl::ascii_islower(word[0])) break;
    words.push_back(word);
  }
  return absl::StrJoin(words, " ");
}

TEST_F(CliTest, TheManualListsExactlyTheVerbsThatExist) {
  std::set<std::string> helped;
  bool listing = false;
  for (const std::string& line : Lines(Run({"--help"}).out)) {
    if (!absl::StartsWith(line, " ")) listing = line == "Verbs:";
    if (listing && absl::StartsWith(line, "  ") && line[2] != ' ')
      helped.insert(VerbOf(line.substr(0, line.find("  ", 2))));
  }
  std::set<std::string> documented;
  for (const std::string& line : Lines(Contents(absl::StrCat(std::getenv("SHADOWLINE_SOURCE_DIR"), "/docs/cli.md")))) {
    if (absl::StartsWith(line, "| `")) documented.insert(VerbOf(line.substr(3, line.find('`', 3) - 3)));
  }
  EXPECT_GT(helped.size(), 20u);
  EXPECT_EQ(helped, documented);
  for (const std::string& verb : helped) {
    std::vector<std::string> arguments = absl::StrSplit(verb, ' ');
    arguments.push_back("--help");
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, HasSubstr(absl::StrCat("Usage: shadowline ", verb)));
  }
}

}  // namespace
}  // namespace shadowline
