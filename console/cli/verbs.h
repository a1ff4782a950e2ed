// What each verb of the command line does: one or a few calls, then text or JSON. Each returns the process's exit code.
//
// Threads: one.
#ifndef SHADOWLINE_CONSOLE_CLI_VERBS_H_
#define SHADOWLINE_CONSOLE_CLI_VERBS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "console/cli/client.h"
#include "console/cli/output.h"

namespace shadowline::console {

// Beside 0. Those from 64 are sysexits.h's, so that a script can tell whose fault it is.
enum ExitCode : int {
  // diff, compare: they differ. read: no such row. cache inspect: no answer. watch: rolled back or aborted.
  kDiffers = 1,
  kTimedOut = 2,      // A call, or a watch, was not over within --timeout.
  kCannotJudge = 2,   // compare: a file cannot be read, or is not JSON.
  kInconclusive = 3,  // watch: stopped before an end.
  kUsage = 64,        // The command line is wrong.
  kBadInput = 65,     // The server refuses what it was given.
  kNoInput = 66,      // A file cannot be read, or there is no such tenant, family, rollout or divergence.
  kUnavailable = 69,  // No server answers, or it cannot reach its database or cache.
  kInternal = 70,     // The server failed.
  kNoOutput = 74,     // The output cannot be written.
  kTryAgain = 75,     // Something changed meanwhile, or the server is busy.
  kRefused = 76,      // The state does not allow it.
  kNoPermission = 77,
};

int ExitCodeOf(const absl::Status& status);

struct GlobalOptions {
  std::string server;
  bool json = false;
  // For each call; a watch has no limit unless one is given.
  std::optional<absl::Duration> timeout;
};

class Verbs {
 public:
  Verbs(const GlobalOptions& options, Output* output);

  int Apply(const std::string& file, bool dry_run, const std::string& who);
  int Diff(const std::string& file);
  int GetCatalog();

  int GetFlag(const std::string& tenant, const std::string& family);
  int ListFlags(const std::string& tenant, const std::string& family);

  int StartRollout(const std::string& family, const std::vector<std::string>& cohorts,
                   const std::vector<std::string>& policy, const std::string& who, const std::string& reason);
  int ListRollouts(const std::string& family, bool ended);
  int GetRollout(const std::string& rollout);
  // `through_stops`: a rollout that is stopped may be resumed, so go on.
  int WatchRollout(const std::string& rollout, bool through_stops);
  // Pause, resume, approve, promote, roll back, abort.
  int Command(absl::StatusOr<v1::Rollout> (Client::*call)(const v1::RolloutCommand&),
              const v1::RolloutCommand& command);

  int ListDivergenceGroups(const std::string& family, uint32_t limit);
  int ListDivergences(const v1::ListDivergencesRequest& request);
  int ShowDivergence(const std::string& id);
  // Exit code 1 where they differ, 2 where there is nothing to compare.
  int ReplayDivergence(const std::string& id);
  int ShowReport(const std::string& family);

  int Read(const std::string& tenant, const std::string& endpoint, const std::vector<std::string>& parameters,
           bool fresh);

  // Exit code 1 where the cache has no answer.
  int InspectCache(const std::string& tenant, const std::string& endpoint, const std::vector<std::string>& parameters);
  int Invalidate(const std::string& tenant, const std::vector<std::string>& tags,
                 const std::vector<uint64_t>& transactions);
  int Purge(const v1::PurgeRequest& request);
  int Warm(const std::string& tenant, const std::vector<std::string>& tags);

  // Needs no server. `rules_or_file`: empty, the JSON itself, or a file. The files are messages where `message` is not
  // empty. `patch`: prints what turns the first into the second instead.
  int Compare(const std::string& file_a, const std::string& file_b, const std::string& rules_or_file,
              const std::string& descriptors, const std::string& message, bool patch);
  int CompareLines();

 private:
  int Fail(const absl::Status& status, int exit_code);
  int Fail(const absl::Status& status) { return Fail(status, ExitCodeOf(status)); }
  // Findings of a refused catalog, each where an editor finds it.
  int FailCatalog(const std::string& file, const absl::Status& status);

  // What is written on the command line, into the parameters of a request; 0, or the exit code.
  int AddParameters(const std::vector<std::string>& texts,
                    google::protobuf::RepeatedPtrField<v1::Parameter>* parameters);
  void WriteJson(const google::protobuf::Message& message, bool one_line = false);
  // The reply as JSON or as `text` has it; or the error.
  template <typename Reply>
  int Show(const absl::StatusOr<Reply>& reply, const std::function<std::string(const Reply&, const Style&)>& text);
  int ShowRollout(const absl::StatusOr<v1::Rollout>& rollout, bool with_policy);

  const GlobalOptions options_;
  Output& output_;
  Client client_;
};

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_VERBS_H_
