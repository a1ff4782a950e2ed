// shadowline: the command line of Shadowline. This file says which verbs there are and what they take; verbs.h does
// them.
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "console/cli/arguments.h"
#include "console/cli/output.h"
#include "console/cli/verbs.h"

namespace shadowline::console {
namespace {

constexpr char kExitCodes[] = R"(Exit codes:
   0  done; watch: settled; diff, compare: the same
   1  diff, compare, replay: they differ; read: no such row; cache inspect: no answer; watch: rolled back or aborted
   2  not over within --timeout; compare, replay: they cannot be judged
   3  watch: stopped before an end
  64  the command line is wrong
  65  the server refuses the input
  66  no such file, tenant, family, rollout or divergence
  69  no server answers, or it cannot reach its database or cache
  70  the server failed
  74  the output cannot be written
  75  something changed meanwhile or the server is busy: try again
  76  the present state does not allow it
  77  no permission
)";

std::string UserName() {
  if (const char* user = std::getenv("USER"); user != nullptr && *user != '\0') return user;
  const passwd* entry = getpwuid(geteuid());
  return entry == nullptr ? absl::StrCat("uid ", geteuid()) : entry->pw_name;
}

std::string DefaultServer() {
  const char* server = std::getenv("SHADOWLINE_SERVER");
  return server == nullptr || *server == '\0' ? "127.0.0.1:7500" : server;
}

std::vector<const CLI::App*> VerbsOf(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// "shadowline rollout start FAMILY": the path to a verb and what it cannot do without.
std::string UsageOf(const CLI::App& verb) {
  std::string usage = verb.get_name();
  for (const CLI::App* group = verb.get_parent(); group != nullptr; group = group->get_parent()) {
    usage = absl::StrCat(group->get_name(), " ", usage);
  }
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_positional()) {
      absl::StrAppend(&usage, " ", option->get_single_name(), option->get_items_expected_max() > 1 ? "..." : "");
    } else if (option->get_required()) {
      const std::string name = option->get_single_name();
      absl::StrAppend(&usage, option->get_snames().empty() ? " --" : " -",
                      option->get_snames().empty() ? name : option->get_snames()[0], " ", absl::AsciiStrToUpper(name));
    }
  }
  return usage;
}

// Names in a column, their meanings beside it, broken into lines.
class Glossary {
 public:
  void Add(std::string name, std::string meaning) { entries_.emplace_back(std::move(name), std::move(meaning)); }
  void AddOptions(const CLI::App& verb) {
    for (const CLI::Option* option : verb.get_options()) {
      Add(option->get_positional() ? option->get_single_name() : option->get_name(false, true),
          option->get_description());
    }
  }

  std::string Text() const {
    constexpr size_t kPage = 110;
    size_t width = 0;
    for (const auto& [name, meaning] : entries_) width = std::max(width, name.size());
    std::string text;
    for (const auto& [name, meaning] : entries_) {
      std::string line = absl::StrCat("  ", name, std::string(width - name.size(), ' '), " ");
      for (const absl::string_view word : absl::StrSplit(meaning, ' ', absl::SkipEmpty())) {
        if (line.size() + 1 + word.size() > kPage) {
          absl::StrAppend(&text, line, "\n");
          line = std::string(width + 3, ' ');
        }
        absl::StrAppend(&line, " ", word);
      }
      absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
    }
    return text;
  }

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
};

// Every verb below `app`, in full.
void AddVerbs(const CLI::App& app, Glossary* glossary) {
  for (const CLI::App* verb : VerbsOf(app)) {
    if (VerbsOf(*verb).empty()) {
      glossary->Add(UsageOf(*verb).substr(std::string("shadowline ").size()), verb->get_description());
    } else {
      AddVerbs(*verb, glossary);
    }
  }
}

std::string Help(const CLI::App& app) {
  const bool whole = app.get_parent() == nullptr;
  Glossary verbs;
  AddVerbs(app, &verbs);
  Glossary options;
  options.AddOptions(app);
  std::string text = absl::StrCat(app.get_description(), "\n\nUsage: ", UsageOf(app),
                                  VerbsOf(app).empty() ? "" : " VERB", " [OPTIONS]\n");
  if (!VerbsOf(app).empty()) absl::StrAppend(&text, "\nVerbs:\n", verbs.Text());
  absl::StrAppend(&text, whole ? "\nOptions of every verb:\n" : "\nOptions:\n", options.Text());
  if (!app.get_footer().empty()) absl::StrAppend(&text, "\nFor example:\n  ", app.get_footer(), "\n");
  absl::StrAppend(&text, "\n",
                  whole ? kExitCodes : "`shadowline --help` has the options of every verb and the exit codes.\n");
  if (whole) absl::StrAppend(&text, "\n`shadowline VERB --help` says more about one verb.\n");
  return text;
}

// Everything that can stand on a command line. One object, since exactly one verb is run.
struct Arguments {
  GlobalOptions global;
  std::string output = "table";
  std::string timeout;
  bool no_color = false;

  std::string file;
  bool dry_run = false;
  std::string tenant;
  std::string family;
  std::string who = UserName();
  std::string reason;
  std::vector<std::string> cohorts;
  std::vector<std::string> policy;
  bool all = false;
  std::string rollout;
  bool through_stops = false;
  bool each = false;
  std::string group;
  uint32_t limit = 0;
  std::string id;
  std::string endpoint;
  std::vector<std::string> parameters;
  bool fresh = false;
  std::vector<std::string> tags;
  std::vector<uint64_t> transactions;
  std::string file_a;
  std::string file_b;
  std::string rules;
  std::string descriptors;
  std::string message;
  bool json_lines = false;
  bool patch = false;
};

class CommandLine {
 public:
  explicit CommandLine(Output* output) : output_(*output) { Declare(); }

  int Run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
      // The help of the innermost verb that was named.
      const CLI::App* named = &app_;
      while (!named->get_subcommands().empty()) named = named->get_subcommands().front();
      output_.Write(Help(*named));
      return 0;
    } catch (const CLI::ParseError& error) {
      return Usage(error.what());
    }
    if (!run_) return Usage("a verb is missing");
    arguments_.global.json = arguments_.output == "json";
    output_.set_no_color(arguments_.no_color);
    if (!arguments_.timeout.empty()) {
      const absl::StatusOr<absl::Duration> timeout = ParseDuration(arguments_.timeout);
      if (!timeout.ok()) return Usage(absl::StrCat("--timeout: ", timeout.status().message()));
      arguments_.global.timeout = *timeout;
    }
    return run_();
  }

 private:
  int Usage(absl::string_view message) {
    std::string verb;
    for (const CLI::App* app = &app_; !app->get_subcommands().empty(); absl::StrAppend(&verb, " ", app->get_name())) {
      app = app->get_subcommands().front();
    }
    output_.Error(absl::StrCat(message, "; see shadowline", verb, " --help"));
    return kUsage;
  }

  CLI::App* Verb(CLI::App* parent, const std::string& name, const std::string& description,
                 std::function<int(Verbs&)> body) {
    CLI::App* verb = parent->add_subcommand(name, description);
    verb->callback([this, body = std::move(body)] {
      run_ = [this, body] {
        Verbs verbs(arguments_.global, &output_);
        return body(verbs);
      };
    });
    return verb;
  }

  CLI::App* Group(const std::string& name, const std::string& description) {
    return app_.add_subcommand(name, description)->require_subcommand(0, 1);
  }

  // Shown by the verb's help.
  static void Example(CLI::App* verb, const std::string& line) { verb->footer(line); }

  void Audited(CLI::App* verb, bool reason_required = false) {
    verb->add_option("--reason", arguments_.reason, "Why; it is recorded")->required(reason_required);
    verb->add_option("--who", arguments_.who, absl::StrCat("Who does it; it is recorded. Default: ", arguments_.who));
  }

  void NamesARead(CLI::App* verb) {
    verb->add_option("TENANT", arguments_.tenant)->required();
    verb->add_option("FAMILY/ENDPOINT", arguments_.endpoint)->required();
    verb->add_option(
        "NAME=VALUE", arguments_.parameters,
        "Parameters. A value that looks like an integer, a number, true or false is one; NAME:TYPE=VALUE says "
        "which type it has: text, integer, number, boolean, text_set, text_list, integer_set, integer_list "
        "(elements separated by commas) or null");
  }

  void NamesTags(CLI::App* verb) {
    verb->add_option("TENANT", arguments_.tenant)->required();
    verb->add_option("TAG", arguments_.tags, "For example account:42")->required();
  }

  void Declare();
  void DeclareCache();
  void DeclareRollouts();
  void DeclareDivergences();

  Output& output_;
  Arguments arguments_;
  std::function<int()> run_;
  CLI::App app_{"Moves reads from the database to the cache, target by target, on evidence.", "shadowline"};
};

void CommandLine::Declare() {
  Arguments& a = arguments_;
  a.global.server = DefaultServer();
  app_.fallthrough();
  app_.require_subcommand(0, 1);
  app_.add_option("--server", a.global.server,
                  "HOST:PORT of any replica. Default: SHADOWLINE_SERVER, else 127.0.0.1:7500");
  app_.add_option("-o,--output", a.output, "table or json: proto JSON, one document; watch: one a line")
      ->check(CLI::IsMember({"table", "json"}));
  app_.add_option("--timeout", a.timeout, "For each call, such as 5s or 2m. Default: 30s; watch: none");
  app_.add_flag("--no-color", a.no_color, "No colours; NO_COLOR in the environment does the same");

  CLI::App* apply = Verb(&app_, "apply", "Make a catalog the active one",
                         [&](Verbs& verbs) { return verbs.Apply(a.file, a.dry_run, a.who); });
  apply->add_option("-f,--file", a.file, "The catalog, YAML; - is standard input")->required();
  apply->add_flag("--dry-run", a.dry_run, "Check it and say what would change; store nothing");
  apply->add_option("--who", a.who, absl::StrCat("Who does it; it is recorded. Default: ", a.who));
  CLI::App* diff =
      Verb(&app_, "diff", "Show what apply would change", [&](Verbs& verbs) { return verbs.Diff(a.file); });
  diff->add_option("-f,--file", a.file, "The catalog, YAML; - is standard input")->required();

  CLI::App* get = Group("get", "Show what is active");
  Verb(get, "catalog", "Print the active catalog", [](Verbs& verbs) { return verbs.GetCatalog(); });
  const auto list_flags = [&](Verbs& verbs) { return verbs.ListFlags(a.tenant, a.family); };
  CLI::App* get_flags = Verb(get, "flags", "List where every target is read", list_flags);
  CLI::App* flags = Group("flags", "Where targets are read now");
  CLI::App* flag = Verb(flags, "get", "Show where one target is read",
                        [&](Verbs& verbs) { return verbs.GetFlag(a.tenant, a.family); });
  flag->add_option("TENANT", a.tenant)->required();
  flag->add_option("FAMILY", a.family)->required();
  for (CLI::App* list : {get_flags, Verb(flags, "list", "List where every target is read", list_flags)}) {
    list->add_option("--tenant", a.tenant, "Only this tenant");
    list->add_option("--family", a.family, "Only this family");
  }

  DeclareRollouts();
  DeclareDivergences();

  DeclareCache();

  CLI::App* read = Verb(&app_, "read", "Read one endpoint; the answer goes to stdout, its origin to stderr",
                        [&](Verbs& verbs) { return verbs.Read(a.tenant, a.endpoint, a.parameters, a.fresh); });
  NamesARead(read);
  read->add_flag("--fresh", a.fresh, "The database's answer, whatever the flag says");

  CLI::App* compare =
      Verb(&app_, "compare", "Compare two JSON files, or pairs on stdin, as verification does", [&](Verbs& verbs) {
        if (a.json_lines) return verbs.CompareLines();
        if (!a.file_b.empty()) return verbs.Compare(a.file_a, a.file_b, a.rules, a.descriptors, a.message, a.patch);
        return Usage("two files or --jsonl are expected");
      });
  CLI::Option* files = compare->add_option("A", a.file_a, "The truth, a JSON file");
  compare->add_option("B", a.file_b, "What is compared with it");
  CLI::Option* rules = compare->add_option("--rules", a.rules,
                                           "What is excused, a JSON file, or the JSON itself: {ignore, arrays, "
                                           "tolerance, instants, null_is_absent, extensible}");
  CLI::Option* descriptors = compare->add_option(
      "--descriptors", a.descriptors, "The files are Protobuf messages, of a type in this FileDescriptorSet");
  CLI::Option* message = compare->add_option("--message", a.message, "The full name of that type");
  descriptors->needs(message);
  message->needs(descriptors);
  compare
      ->add_flag("--jsonl", a.json_lines,
                 "Lines of {id, a, b, rules} on stdin, {id, verdict, differences, fingerprint, excuses} on stdout")
      ->excludes(files)
      ->excludes(rules)
      ->excludes(descriptors);
  compare->add_flag("--patch", a.patch, "Print the JSON Patch (RFC 6902) that turns A into B")
      ->needs(files)
      ->excludes(descriptors);

  app_.add_subcommand("version", "Print the version")->callback([this] {
    run_ = [this] {
      output_.Write(arguments_.global.json ? "{\"version\": \"" SHADOWLINE_VERSION "\"}\n"
                                           : "shadowline " SHADOWLINE_VERSION "\n");
      return 0;
    };
  });
}

void CommandLine::DeclareCache() {
  Arguments& a = arguments_;
  CLI::App* cache = Group("cache", "Look into the cache, and drop or load what it holds");

  CLI::App* inspect = Verb(cache, "inspect", "Show what the cache holds for one read, and whether it is an answer",
                           [&](Verbs& verbs) { return verbs.InspectCache(a.tenant, a.endpoint, a.parameters); });
  NamesARead(inspect);
  Example(inspect, "shadowline cache inspect acme pricing/quote account=42");

  CLI::App* invalidate =
      Verb(cache, "invalidate", "Drop the cached values of tags; call it after the write is committed",
           [&](Verbs& verbs) { return verbs.Invalidate(a.tenant, a.tags, a.transactions); });
  NamesTags(invalidate);
  invalidate
      ->add_option("--transaction", a.transactions,
                   "pg_current_xact_id() of a write that others may not see yet; repeat it. Nothing that was loaded "
                   "without it is cached")
      ->allow_extra_args(false)
      // CLI11 takes -1 for the greatest number.
      ->check([](const std::string& text) {
        uint64_t transaction = 0;
        return absl::SimpleAtoi(text, &transaction) ? "" : absl::StrCat("'", text, "': expected a transaction id");
      });
  Example(invalidate, "shadowline cache invalidate acme account:42 prices:emea");

  CLI::App* purge = Verb(cache, "purge", "Drop all that is cached of a family, at once", [&](Verbs& verbs) {
    v1::PurgeRequest request;
    request.set_family(a.family);
    request.set_tenant(a.tenant);
    request.set_who(a.who);
    request.set_reason(a.reason);
    return verbs.Purge(request);
  });
  purge->add_option("FAMILY", a.family)->required();
  purge->add_option("--tenant", a.tenant, "Only this tenant's");
  Audited(purge, /*reason_required=*/true);
  Example(purge, "shadowline cache purge pricing --tenant acme --reason \"a partition was dropped\"");

  CLI::App* warm = Verb(cache, "warm", "Load what the replica remembers as read most often under tags",
                        [&](Verbs& verbs) { return verbs.Warm(a.tenant, a.tags); });
  NamesTags(warm);
  Example(warm, "shadowline cache warm acme prices:emea");
}

void CommandLine::DeclareRollouts() {
  Arguments& a = arguments_;
  CLI::App* rollout = Group("rollout", "Move a family from the database to the cache");

  CLI::App* start = Verb(rollout, "start", "Start moving a family, cohort by cohort", [&](Verbs& verbs) {
    return verbs.StartRollout(a.family, a.cohorts, a.policy, a.who, a.reason);
  });
  start->add_option("FAMILY", a.family)->required();
  start
      ->add_option("--cohort", a.cohorts,
                   "Who moves together, in order; repeat it. NAME=TENANT,TENANT or a share of those not taken yet: 5%, "
                   "NAME=25%, rest. Default: 5%, 25%, rest")
      ->allow_extra_args(false);
  start
      ->add_option("--policy", a.policy,
                   "KEY=VALUE instead of what the catalog says; repeat it. Keys: duration, episodes, distinct_keys, "
                   "exercised, slo, confidence, unjudged, candidate_p95, shadow_sample, cache_sample, sample_by, ramp, "
                   "soak, approval. Shares are percents (slo=0.1%, ramp=5%,100%)")
      ->allow_extra_args(false);
  Audited(start);

  CLI::App* list =
      Verb(rollout, "list", "List rollouts", [&](Verbs& verbs) { return verbs.ListRollouts(a.family, a.all); });
  list->add_option("--family", a.family, "Only this family");
  list->add_flag("--all", a.all, "Those that have ended too");

  const auto named = [&](CLI::App* verb) {
    verb->add_option("ROLLOUT", a.rollout, "Its id, or the family's name for its newest one")->required();
    return verb;
  };
  named(Verb(rollout, "get", "Show a rollout: cohorts, targets, what is missing, policy",
             [&](Verbs& verbs) { return verbs.GetRollout(a.rollout); }));
  named(Verb(rollout, "watch", "Follow a rollout until it has ended or is stopped", [&](Verbs& verbs) {
    return verbs.WatchRollout(a.rollout, a.through_stops);
  }))->add_flag("--through-stops", a.through_stops, "Go on while it is stopped: someone may resume it");

  const auto command = [&](const char* name, const char* description, auto call, bool one_target,
                           bool reason_required) {
    CLI::App* verb = named(Verb(rollout, name, description, [&a, call](Verbs& verbs) {
      v1::RolloutCommand request;
      request.set_rollout(a.rollout);
      request.set_tenant(a.tenant);
      request.set_who(a.who);
      request.set_reason(a.reason);
      return verbs.Command(call, request);
    }));
    if (one_target) verb->add_option("--tenant", a.tenant, "Only this tenant's target");
    Audited(verb, reason_required);
  };
  command("pause", "Promote nothing until it is resumed", &Client::PauseRollout, false, false);
  command("resume", "Go on; targets that were stopped get new windows", &Client::ResumeRollout, false, false);
  command("approve", "Approve the cohort that waits for it", &Client::ApproveRollout, false, false);
  command("promote", "Promote past the evidence: the present cohort, or one target", &Client::PromoteRollout, true,
          true);
  command("rollback", "Go back to the database: the family, or one target", &Client::RollbackRollout, true, false);
  command("abort", "End it; what has not settled goes back to the database", &Client::AbortRollout, false, false);
}

void CommandLine::DeclareDivergences() {
  Arguments& a = arguments_;
  CLI::App* divergences = Group("divergences", "What was found to be wrong");
  CLI::App* list = Verb(divergences, "list", "List divergences by group, newest first", [&](Verbs& verbs) {
    if (!a.each && a.tenant.empty() && a.group.empty()) return verbs.ListDivergenceGroups(a.family, a.limit);
    v1::ListDivergencesRequest request;
    request.set_family(a.family);
    request.set_tenant(a.tenant);
    request.set_fingerprint(a.group);
    request.set_limit(a.limit);
    return verbs.ListDivergences(request);
  });
  list->add_flag("--each", a.each, "Each by itself, not by group");
  list->add_option("--family", a.family, "Only this family");
  list->add_option("--tenant", a.tenant, "Only this tenant's, each by itself");
  list->add_option("--group", a.group, "Only this group's, each by itself");
  list->add_option("--limit", a.limit, "At most so many. Default: 50")->check(CLI::Range(1u, 500u));

  CLI::App* show =
      Verb(divergences, "show", "Tell a divergence or a group in full: what differs, the proof, the cause, what to do",
           [&](Verbs& verbs) { return verbs.ShowDivergence(a.id); });
  show->add_option("ID", a.id)->required();

  CLI::App* replay =
      Verb(divergences, "replay", "Make the read of a divergence again: do cache and database differ now?",
           [&](Verbs& verbs) { return verbs.ReplayDivergence(a.id); });
  replay->add_option("ID", a.id)->required();

  CLI::App* report = Verb(&app_, "report", "Report on a family: ledger, targets, divergence groups, flips",
                          [&](Verbs& verbs) { return verbs.ShowReport(a.family); });
  report->add_option("FAMILY", a.family)->required();
}

}  // namespace
}  // namespace shadowline::console

int main(int argc, char** argv) {
  using shadowline::console::Output;
  // The one line that a failure gets is ours.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const shadowline::base::SystemClock clock;
  Output output(&clock);
  const int code = shadowline::console::CommandLine(&output).Run(argc, argv);
  if (!output.failure().empty()) {
    output.Error(absl::StrCat("cannot write the output: ", output.failure()));
    return shadowline::console::kNoOutput;
  }
  return code;
}
