#include "server/options/options.h"

#include <sched.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "cache/catalog/parse.h"

namespace shadowline::server {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

// Stores a text in its field. Returns what is wrong and what was expected, or nothing.
using Store = std::function<std::optional<std::string>(const std::string& text, Options* options)>;

struct Field {
  std::string name;
  std::string type;      // Shown in --help.
  std::string fallback;  // For people.
  std::string meaning;
  bool secret = false;
  Store store;
};

std::string Quoted(absl::string_view text) { return absl::StrCat("\"", text, "\""); }

template <typename Access>
Store Number(Access access, int64_t least, int64_t most) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    const std::string expected = absl::StrCat("; expected a whole number from ", least, " to ", most);
    int64_t value = 0;
    if (!absl::SimpleAtoi(text, &value)) return Quoted(text) + " is not a whole number" + expected;
    if (value < least || value > most) return text + " is out of range" + expected;
    access(*options) = static_cast<std::decay_t<decltype(access(*options))>>(value);
    return std::nullopt;
  };
}

template <typename Access>
Store Duration(Access access, absl::Duration least, absl::Duration most) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    const std::string expected = absl::StrCat("; expected a duration with its unit (250ms, 30s, 5m, 48h), from ",
                                              absl::FormatDuration(least), " to ", absl::FormatDuration(most));
    const absl::StatusOr<absl::Duration> value = cache::ParseDuration(text);
    if (!value.ok()) return Quoted(text) + " is not a duration" + expected;
    if (*value < least || *value > most) return text + " is out of range" + expected;
    access(*options) = *value;
    return std::nullopt;
  };
}

template <typename Access>
Store Text(Access access, size_t longest) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    if (text.size() > longest) return absl::StrCat("is too long; expected at most ", longest, " bytes");
    if (text.find('\0') != std::string::npos) return "holds a NUL byte; expected text";
    access(*options) = text;
    return std::nullopt;
  };
}

template <typename Access>
Store ConnectionString(Access access) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    const bool url = absl::StartsWith(text, "postgresql://") || absl::StartsWith(text, "postgres://");
    if (!url && text.find('=') == std::string::npos) {
      return "is no connection string; expected postgresql://user@host/database or host=... dbname=...";
    }
    access(*options) = text;
    return std::nullopt;
  };
}

std::optional<HostPort> ParseHostPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return std::nullopt;
  absl::string_view host = text.substr(0, colon);
  const absl::string_view port = text.substr(colon + 1);
  HostPort result;
  if (port.empty() || !std::all_of(port.begin(), port.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(port, &result.port) || result.port > 65535) {
    return std::nullopt;
  }
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]") || host.empty()) return std::nullopt;
  } else if (host.find(':') != absl::string_view::npos) {
    return std::nullopt;  // An IPv6 address without brackets: where it ends would be a guess.
  }
  result.host = std::string(host);
  return result;
}

template <typename Access>
Store ListenAddress(Access access) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    const std::optional<HostPort> address = ParseHostPort(text);
    if (!address) return Quoted(text) + " is no address; expected host:port or [ipv6]:port, port from 0 to 65535";
    access(*options) = *address;
    return std::nullopt;
  };
}

std::optional<std::string> StoreRedisAddress(const std::string& text, Options* options) {
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "unix:")) {
    if (!absl::StartsWith(path, "/")) return Quoted(text) + " has no absolute path; expected unix:/path/to/socket";
    options->redis.socket = std::string(path);
    return std::nullopt;
  }
  const std::optional<HostPort> address = ParseHostPort(text);
  if (!address || address->port == 0) {
    return Quoted(text) + " is no address; expected unix:/path, host:port or [ipv6]:port, port from 1 to 65535";
  }
  options->redis.socket.clear();
  options->redis.address = *address;
  return std::nullopt;
}

template <typename Access>
Store ReadableFile(Access access_field) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    if (!text.empty() && access(text.c_str(), R_OK) != 0)
      return Quoted(text) + " cannot be read; expected a file in PEM";
    access_field(*options) = text;
    return std::nullopt;
  };
}

constexpr size_t kAddressesMax = 64;

template <typename Access>
Store Addresses(Access access) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    std::vector<HostPort> addresses;
    for (const absl::string_view one : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
      const std::optional<HostPort> address = ParseHostPort(absl::StripAsciiWhitespace(one));
      if (!address || address->port == 0) {
        return Quoted(one) +
               " is no address; expected host:port or [ipv6]:port, port from 1 to 65535, with commas between";
      }
      addresses.push_back(*address);
    }
    if (addresses.size() > kAddressesMax) return absl::StrCat("are too many; expected at most ", kAddressesMax);
    access(*options) = std::move(addresses);
    return std::nullopt;
  };
}

std::optional<std::string> StoreReplicaName(const std::string& text, Options* options) {
  const bool printable = std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
  if (text.empty() || text.size() > 128 || !printable) {
    return Quoted(text) + " is no name; expected 1 to 128 printable ASCII characters without spaces";
  }
  options->replica_name = text;
  return std::nullopt;
}

std::optional<std::string> StoreRedactionSecret(const std::string& text, Options* options) {
  if (text.size() < 16) return "is too short to be a secret; expected at least 16 bytes";
  options->verification.redaction_secret = text;
  return std::nullopt;
}

constexpr size_t kLeastKeyBytes = 32;  // As diff::Sealer's.

std::optional<std::string> StoreEvidenceKey(const std::string& text, Options* options) {
  if (text.size() < kLeastKeyBytes) {
    return absl::StrCat("is too short to be a key; expected at least ", kLeastKeyBytes, " bytes");
  }
  if (std::any_of(text.begin(), text.end(), absl::ascii_isspace)) return "holds white space; expected one key";
  options->evidence.key = text;
  return std::nullopt;
}

std::optional<std::string> StoreOldKeys(const std::string& text, Options* options) {
  std::vector<std::string> keys = absl::StrSplit(text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty());
  for (const std::string& key : keys) {
    if (key.size() < kLeastKeyBytes) {
      return absl::StrCat("holds one that is too short to be a key; expected at least ", kLeastKeyBytes, " bytes each");
    }
  }
  options->evidence.old_keys = std::move(keys);
  return std::nullopt;
}

template <typename Access>
Store Switch(Access access) {
  return [=](const std::string& text, Options* options) -> std::optional<std::string> {
    if (text != "true" && text != "false") return Quoted(text) + " is no switch; expected true or false";
    access(*options) = text == "true";
    return std::nullopt;
  };
}

std::optional<std::string> StoreSlot(const std::string& text, Options* options) {
  const bool named = !text.empty() && text.size() <= 63 &&
                     text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
  if (!named) return Quoted(text) + " is no slot's name; expected 1 to 63 of a-z, 0-9 and _";
  options->capture.slot = text;
  return std::nullopt;
}

std::optional<std::string> StoreCatalog(const std::string& text, Options* options) {
  if (!text.empty() && access(text.c_str(), R_OK) != 0)
    return Quoted(text) + " cannot be read; expected a catalog file";
  options->catalog = text;
  return std::nullopt;
}

std::optional<std::string> StoreLogLevel(const std::string& text, Options* options) {
  static const std::map<std::string, base::Level> levels = {{"debug", base::Level::kDebug},
                                                            {"info", base::Level::kInfo},
                                                            {"warning", base::Level::kWarning},
                                                            {"error", base::Level::kError}};
  const auto level = levels.find(text);
  if (level == levels.end()) return Quoted(text) + " is no level; expected debug, info, warning or error";
  options->log_level = level->second;
  return std::nullopt;
}

// Where a field lives in Options, in one expression.
#define FIELD(path) \
  [](Options & options) -> auto& { return options.path; }

const std::vector<Field>& Fields() {
  using absl::Hours;
  using absl::Milliseconds;
  using absl::Minutes;
  using absl::Seconds;
  static const auto* const fields = new std::vector<Field>{
      {"listen", "HOST:PORT", "127.0.0.1:7500", "Address of the gRPC port. Port 0 is chosen by the kernel and logged.",
       false, ListenAddress(FIELD(listen))},
      {"http_listen", "HOST:PORT", "127.0.0.1:7580",
       "Address of the HTTP port: /metrics, /healthz, /readyz. Port 0 as above.", false,
       ListenAddress(FIELD(http_listen))},
      {"replica_name", "NAME", "the host's name",
       "Names this replica in evidence and logs. Two replicas that run at once must not share one.", false,
       StoreReplicaName},
      {"source.url", "SECRET", "",
       "Connection string of the database that is read: the truth. Required. Give it a user that can only read.", true,
       ConnectionString(FIELD(source.url))},
      {"source.connections", "N", "8", "Connections for reads.", false, Number(FIELD(source.connections), 1, 1000)},
      {"source.queue", "N", "1024",
       "Reads that wait for a connection; beyond it a read is refused (RESOURCE_EXHAUSTED).", false,
       Number(FIELD(source.queue), 1, 1'000'000)},
      {"source.wait", "DURATION", "1s", "Longest wait for a connection; then a read is refused (RESOURCE_EXHAUSTED).",
       false, Duration(FIELD(source.wait), Milliseconds(10), Seconds(60))},
      {"source.search_path", "TEXT", "public", "The search_path that statements run in.", false,
       Text(FIELD(source.search_path), 1024)},
      {"source.role", "TEXT", "", "The role that statements run as (SET ROLE). Empty: the connection's own.", false,
       Text(FIELD(source.role), 63)},
      {"state.url", "SECRET", "source.url",
       "Connection string of the database that keeps the schema `shadowline`. Its user owns that schema.", true,
       ConnectionString(FIELD(state.url))},
      {"state.connections", "N", "4", "Connections for state.", false, Number(FIELD(state.connections), 1, 1000)},
      {"redis.address", "ADDRESS", "127.0.0.1:6379", "`host:port`, or `unix:/path` of its socket.", false,
       StoreRedisAddress},
      {"redis.cluster", "HOST:PORT,...", "", "Nodes of a Redis Cluster, any of them, instead of redis.address.", false,
       Addresses(FIELD(redis.cluster))},
      {"redis.sentinel.addresses", "HOST:PORT,...", "", "Sentinels that name the master, instead of redis.address.",
       false, Addresses(FIELD(redis.sentinel.addresses))},
      {"redis.sentinel.master", "NAME", "", "The name by which they know it.", false,
       Text(FIELD(redis.sentinel.master), 256)},
      {"redis.sentinel.user", "TEXT", "", "ACL user of the sentinels themselves. Empty: the default user.", false,
       Text(FIELD(redis.sentinel.user), 256)},
      {"redis.sentinel.password", "SECRET", "", "Password of that user. Empty: none is sent.", true,
       Text(FIELD(redis.sentinel.password), 4096)},
      {"redis.tls.enabled", "BOOL", "false",
       "Whether Redis, its cluster or its sentinels are spoken to over TLS. Their certificates are always verified.",
       false, Switch(FIELD(redis.tls.enabled))},
      {"redis.tls.ca", "FILE", "the system's", "The authorities that are trusted, in PEM.", false,
       ReadableFile(FIELD(redis.tls.ca))},
      {"redis.tls.certificate", "FILE", "", "The certificate that is shown to Redis, in PEM. Empty: none.", false,
       ReadableFile(FIELD(redis.tls.certificate))},
      {"redis.tls.key", "FILE", "", "Its key, in PEM.", false, ReadableFile(FIELD(redis.tls.key))},
      {"redis.tls.server_name", "NAME", "the host connected to",
       "The name that all certificates of Redis have to be for.", false, Text(FIELD(redis.tls.server_name), 253)},
      {"redis.user", "TEXT", "", "ACL user. Empty: the default user.", false, Text(FIELD(redis.user), 256)},
      {"redis.password", "SECRET", "", "Password of that user. Empty: none is sent.", true,
       Text(FIELD(redis.password), 4096)},
      {"redis.db", "N", "0", "Database number.", false, Number(FIELD(redis.db), 0, 1023)},
      {"redis.timeout", "DURATION", "50ms",
       "A command without a reply for so long has failed, and the read goes to the database.", false,
       Duration(FIELD(redis.timeout), Milliseconds(1), Seconds(10))},
      {"redis.max_outstanding", "N", "4096",
       "Commands of one connection that wait for a reply; beyond it they fail at once.", false,
       Number(FIELD(redis.max_outstanding), 1, 1'000'000)},
      {"near.max_bytes", "N", "67108864",
       "Memory for the answers of endpoints that are declared near, over all lanes. 0: they are read from Redis.",
       false, Number(FIELD(near.max_bytes), 0, int64_t{64} << 30)},
      {"lanes", "N", "half the cores, at least 1",
       "Threads that serve reads; each owns a gRPC completion queue and a Redis connection.", false,
       Number(FIELD(lanes), 1, 256)},
      {"verification.connections", "N", "2",
       "Connections to the source for verification, beside source.connections. Two more read in pairs.", false,
       Number(FIELD(verification.connections), 1, 1000)},
      {"verification.queue", "N", "4096", "Reads that wait to be verified; beyond it they are shed, and counted.",
       false, Number(FIELD(verification.queue), 1, 1'000'000)},
      {"verification.budget_per_second", "N", "500",
       "Most verification queries a second that the fleet sends to the source: each live replica takes its part, and "
       "less while the database is slow.",
       false, Number(FIELD(verification.budget_per_second), 1, 1'000'000)},
      {"verification.redaction_secret", "SECRET", "",
       "Keys the digests that stand for values in evidence; at least 16 bytes, the same for all replicas. Empty: a "
       "random one "
       "for the life of the process, so that digests of different replicas cannot be compared, and a replica takes no "
       "other's decisions on observed endpoints.",
       true, StoreRedactionSecret},
      {"verification.max_rounds", "N", "5", "Looks at a differing answer before it is inconclusive.", false,
       Number(FIELD(verification.max_rounds), 1, 100)},
      {"warm.per_second", "N", "50",
       "Most keys a second that this replica loads again after an invalidation, for endpoints that declare `warm`.",
       false, Number(FIELD(warm.per_second), 1, 10'000)},
      {"flags.lease", "DURATION", "2s",
       "How long a replica that cannot ask for the flags still serves from the cache: the longest that a rollback can "
       "take.",
       false, Duration(FIELD(flags.lease), Milliseconds(100), Minutes(1))},
      {"flags.poll", "DURATION", "500ms",
       "How often the flags are asked for, beside being pushed. Less than flags.lease.", false,
       Duration(FIELD(flags.poll), Milliseconds(10), Minutes(1))},
      {"controller.enabled", "BOOL", "true", "Whether this replica may become the one that decides about rollouts.",
       false, Switch(FIELD(controller.enabled))},
      {"controller.tick", "DURATION", "1s", "How often it decides.", false,
       Duration(FIELD(controller.tick), Milliseconds(50), Minutes(1))},
      {"capture.enabled", "BOOL", "true",
       "Whether this replica may become the one that captures changes, where the catalog declares some, and empties "
       "the "
       "outbox.",
       false, Switch(FIELD(capture.enabled))},
      {"capture.slot", "NAME", "shadowline", "Name of the replication slot and of the publication.", false, StoreSlot},
      {"capture.patience", "DURATION", "10s",
       "How long what is captured is still served from the cache when changes are captured no more, whatever the "
       "reason. "
       "After it those families are read from the database until capture has caught up.",
       false, Duration(FIELD(capture.patience), Seconds(3), Hours(24))},
      {"certification.max_bytes", "N", "8388608",
       "Memory to know by which transactions cached answers of captured families are outdated; about an eighth more is "
       "used. "
       "0: none is certified, and a replica that captures tells no other of it.",
       false, Number(FIELD(certification.max_bytes), 0, int64_t{1} << 30)},
      {"evidence.flush", "DURATION", "1s", "How often counted verdicts are written to the state store.", false,
       Duration(FIELD(evidence.flush), Milliseconds(50), Minutes(1))},
      {"evidence.lapse", "DURATION", "10s",
       "A replica that has not flushed for so long is dead: its unsettled reads are lost. More than evidence.flush.",
       false, Duration(FIELD(evidence.lapse), Milliseconds(500), Hours(1))},
      {"evidence.spool", "FOLDER", "",
       "A folder of this machine that is still there when the process is gone: what is confirmed and counted "
       "while the state store is away is kept there, and stored by whoever starts next with the same folder. "
       "Empty: it is kept in memory alone.",
       false, Text(FIELD(evidence.spool), 4000)},
      {"evidence.spool_max_bytes", "N", "67108864",
       "Most bytes of one process there. At the limit confirmed divergences go before counts.", false,
       Number(FIELD(evidence.spool_max_bytes), 64 << 10, int64_t{64} << 30)},
      {"evidence.key", "SECRET", "",
       "Key of what is kept of a divergence encrypted: the read's parameters, and values where an endpoint shows them. "
       "At least 32 bytes, the same for all replicas. Empty: neither is kept, and no divergence can be replayed.",
       true, StoreEvidenceKey},
      {"evidence.old_keys", "SECRET", "",
       "Former keys, with white space between: what was encrypted under them can still be read.", true, StoreOldKeys},
      {"evidence.retention", "DURATION", "2160h",
       "How long counts, episodes and divergences of windows that are over are kept.", false,
       Duration(FIELD(evidence.retention), Hours(24), Hours(24 * 3650))},
      {"catalog", "FILE", "",
       "A catalog that is applied at start, and again on SIGHUP. Empty: catalogs come by `shadowline apply`.", false,
       StoreCatalog},
      {"drain_timeout", "DURATION", "10s",
       "After SIGTERM: how long calls that are under way may take before they are cancelled.", false,
       Duration(FIELD(drain_timeout), Milliseconds(0), Minutes(10))},
      {"limits.max_message_bytes", "N", "8388608",
       "Largest gRPC message that is accepted, and most that the answers of a batch may have together.", false,
       Number(FIELD(max_message_bytes), 4 << 10, 256 << 20)},
      {"log_level", "LEVEL", "info", "debug, info, warning or error.", false, StoreLogLevel},
  };
  return *fields;
}

#undef FIELD

const Field* FindField(const std::string& name) {
  for (const Field& field : Fields()) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

// The names one level below `prefix` ("" or "source."), for "expected one of".
std::string NamesBelow(const std::string& prefix) {
  std::set<std::string> names;
  for (const Field& field : Fields()) {
    if (!absl::StartsWith(field.name, prefix)) continue;
    names.insert(absl::StrCat(prefix, std::string(*absl::StrSplit(field.name.substr(prefix.size()), '.').begin())));
  }
  return absl::StrJoin(names, ", ");
}

bool IsSection(const std::string& name) {
  return std::any_of(Fields().begin(), Fields().end(),
                     [&](const Field& field) { return absl::StartsWith(field.name, name + "."); });
}

std::string EnvironmentName(const std::string& field) {
  std::string name = absl::StrCat("SHADOWLINE_", absl::AsciiStrToUpper(field));
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (!file || !file.read(text.data(), static_cast<std::streamsize>(text.size())).eof()) {
    return absl::NotFoundError(file.is_open() ? "cannot be read, or is larger than 1 MiB" : "cannot be opened");
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

// Collects the layers into one Options, and everything that is wrong with them.
class Collector {
 public:
  explicit Collector(const Environment* environment) : environment_(environment) {}

  void AddFinding(std::string finding) { findings_.push_back(std::move(finding)); }

  // `where` is the place, with the field's name: "server.yaml:3:16: source.connections".
  void Set(const Field& field, const std::string& text, const std::string& where) {
    where_[field.name] = where;
    const absl::StatusOr<std::string> value = field.secret ? Resolve(text) : text;
    if (!value.ok()) {
      AddFinding(absl::StrCat(where, ": ", value.status().message()));
      return;
    }
    if (const auto finding = field.store(*value, &options_)) AddFinding(absl::StrCat(where, ": ", *finding));
  }

  void ReadConfig(const std::string& path) {
    source_ = path;
    const absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok()) {
      AddFinding(absl::StrCat(path, ": ", text.status().message(), "; expected a YAML file"));
      return;
    }
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(*text);
      if (documents.size() > 1) AddFinding(absl::StrCat(path, ": holds several documents; expected one"));
      if (!documents.empty()) ReadSection(documents.front(), "");
    } catch (const YAML::Exception& error) {
      AddFinding(absl::StrCat(Place(error.mark), ": is not YAML (", error.msg, "); expected `field: value` lines"));
    }
  }

  // What only shows once all layers are there.
  absl::StatusOr<Options> Finish() {
    if (options_.source.url.empty() && !where_.contains("source.url")) {
      AddFinding(absl::StrCat(Where("source.url"), ": is missing; expected a connection string, in the file, in ",
                              EnvironmentName("source.url"), " or as --source.url"));
    }
    if (options_.state.url.empty()) options_.state.url = options_.source.url;
    if (options_.flags.poll >= options_.flags.lease) {
      AddFinding(absl::StrCat(Where("flags.poll"), ": ", absl::FormatDuration(options_.flags.poll),
                              " would let the lease lapse; expected less than flags.lease (",
                              absl::FormatDuration(options_.flags.lease), ")"));
    }
    if (options_.evidence.flush >= options_.evidence.lapse) {
      AddFinding(absl::StrCat(Where("evidence.flush"), ": ", absl::FormatDuration(options_.evidence.flush),
                              " would make a live replica look dead; expected less than evidence.lapse (",
                              absl::FormatDuration(options_.evidence.lapse), ")"));
    }
    CheckRedis();
    if (!findings_.empty()) return absl::InvalidArgumentError(absl::StrJoin(findings_, "\n"));
    return options_;
  }

  Options* options() { return &options_; }

 private:
  std::string Place(const YAML::Mark& mark) const {
    if (mark.is_null()) return source_;
    return absl::StrCat(source_, ":", mark.line + 1, ":", mark.column + 1);
  }

  // Exactly one shape, and nothing that it would not use.
  void CheckRedis() {
    const auto& redis = options_.redis;
    const bool cluster = !redis.cluster.empty();
    const bool sentinel = !redis.sentinel.addresses.empty();
    if (cluster && where_.contains("redis.address")) {
      AddFinding(Where("redis.cluster") + ": is given beside redis.address; expected one of the two");
    }
    if (sentinel && where_.contains("redis.address")) {
      AddFinding(Where("redis.sentinel.addresses") + ": is given beside redis.address; expected one of the two");
    }
    if (cluster && sentinel) {
      AddFinding(Where("redis.cluster") + ": is given beside redis.sentinel.addresses; expected one of the two");
    }
    if (cluster && redis.db != 0) {
      AddFinding(
          absl::StrCat(Where("redis.db"), ": ", redis.db, " is not there; a Redis Cluster has database 0 alone"));
    }
    if (sentinel && redis.sentinel.master.empty()) {
      AddFinding(Where("redis.sentinel.master") +
                 ": is missing; expected the name by which the sentinels know the master");
    }
    const auto& tls = redis.tls;
    for (const char* field : {"redis.tls.ca", "redis.tls.certificate", "redis.tls.key", "redis.tls.server_name"}) {
      if (!tls.enabled && where_.contains(field)) {
        AddFinding(Where(field) + ": is of no use without TLS; expected redis.tls.enabled to be true");
      }
    }
    if (tls.certificate.empty() != tls.key.empty()) {
      const char* const given = tls.key.empty() ? "redis.tls.certificate" : "redis.tls.key";
      const char* const missing = tls.key.empty() ? "redis.tls.key" : "redis.tls.certificate";
      AddFinding(absl::StrCat(Where(given), ": is of no use alone; expected ", missing, " as well"));
    }
    if (tls.enabled && !redis.socket.empty() && !cluster && !sentinel) {
      AddFinding(Where("redis.tls.enabled") + ": Redis speaks no TLS on a socket of the machine; expected host:port");
    }
    for (const char* field : {"redis.sentinel.master", "redis.sentinel.user", "redis.sentinel.password"}) {
      if (!sentinel && where_.contains(field)) {
        AddFinding(Where(field) + ": is of no use without redis.sentinel.addresses");
      }
    }
  }

  std::string Where(const std::string& field) const {
    const auto where = where_.find(field);
    return where == where_.end() ? absl::StrCat(source_, ": ", field) : where->second;
  }

  void ReadSection(const YAML::Node& node, const std::string& prefix) {
    if (node.IsNull()) return;
    if (!node.IsMap()) {
      const std::string name = prefix.empty() ? "" : absl::StrCat(": ", prefix.substr(0, prefix.size() - 1));
      AddFinding(absl::StrCat(Place(node.Mark()), name, ": is not a map; expected fields: ", NamesBelow(prefix)));
      return;
    }
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string name = absl::StrCat(prefix, entry.first.IsScalar() ? entry.first.Scalar() : "?");
      const std::string key_place = absl::StrCat(Place(entry.first.Mark()), ": ", name);
      if (!seen.insert(name).second) {
        AddFinding(absl::StrCat(key_place, ": is given twice; expected it once"));
      } else if (const Field* field = FindField(name)) {
        const std::string place = absl::StrCat(Place(entry.second.Mark()), ": ", name);
        const bool list = entry.second.IsSequence() && absl::EndsWith(field->type, ",...") &&
                          std::all_of(entry.second.begin(), entry.second.end(),
                                      [](const YAML::Node& element) { return element.IsScalar(); });
        if (entry.second.IsScalar()) {
          Set(*field, entry.second.Scalar(), place);
        } else if (list) {
          std::vector<std::string> elements;
          for (const YAML::Node& element : entry.second) elements.push_back(element.Scalar());
          Set(*field, absl::StrJoin(elements, ","), place);
        } else {
          where_[name] = place;
          AddFinding(
              absl::StrCat(entry.second.IsNull() ? key_place : place, ": has no plain value; expected ", field->type));
        }
      } else if (IsSection(name)) {
        ReadSection(entry.second, name + ".");
      } else {
        AddFinding(absl::StrCat(key_place, ": is no field; expected one of ", NamesBelow(prefix)));
      }
    }
  }

  // The secret that `text` is, or refers to.
  absl::StatusOr<std::string> Resolve(absl::string_view text) const {
    if (absl::ConsumePrefix(&text, "env:")) {
      std::optional<std::string> value = (*environment_)(std::string(text));
      if (!value) {
        return absl::NotFoundError(
            absl::StrCat("environment variable ", Quoted(text), " is not set; expected it to hold the value"));
      }
      return *std::move(value);
    }
    if (absl::ConsumePrefix(&text, "file:")) {
      absl::StatusOr<std::string> value = ReadFile(std::string(text));
      if (!value.ok()) {
        return absl::NotFoundError(
            absl::StrCat("file ", Quoted(text), " ", value.status().message(), "; expected it to hold the value"));
      }
      while (!value->empty() && (value->back() == '\n' || value->back() == '\r')) value->pop_back();
      return value;
    }
    return std::string(text);
  }

  const Environment* const environment_;
  Options options_;
  std::string source_ = "configuration";
  std::map<std::string, std::string> where_;  // By field: who set it last.
  std::vector<std::string> findings_;
};

std::string HostName() {
  char name[129] = {};
  return gethostname(name, sizeof(name) - 1) == 0 && name[0] != '\0' ? name : "localhost";
}

// Cores that this process may use, which in a container are fewer than the machine has.
size_t Cores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? static_cast<size_t>(CPU_COUNT(&cores)) : 1;
}

}  // namespace

std::string HostPort::ToString() const {
  return absl::StrCat(host.find(':') == std::string::npos ? host : absl::StrCat("[", host, "]"), ":", port);
}

std::optional<std::string> ProcessEnvironment(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::vector<OptionDoc> OptionDocs() {
  std::vector<OptionDoc> docs;
  for (const Field& field : Fields()) docs.push_back({field.name, field.fallback, field.meaning});
  return docs;
}

absl::StatusOr<CommandLine> ReadCommandLine(const std::vector<std::string>& arguments, const Environment& environment) {
  CLI::App app("Serves reads from a database, and from its cache once the evidence says that it may.", "shadowlined");
  app.allow_extras();
  app.get_formatter()->column_width(44);
  std::string config;
  bool check = false;
  app.add_option("--config", config, "YAML file with any of the fields below")->type_name("FILE");
  app.add_flag("--check", check, "Check the configuration, then exit: 0 where all of it is right");
  std::map<std::string, std::string> flags;
  for (const Field& field : Fields()) {
    std::string description = field.meaning;
    if (!field.fallback.empty()) absl::StrAppend(&description, " Default: ", field.fallback, ".");
    if (field.secret)
      absl::StrAppend(&description, " Also env:NAME or file:PATH, or ", EnvironmentName(field.name), ".");
    app.add_option("--" + field.name, flags[field.name], description)->type_name(field.type)->group("Fields");
  }

  CommandLine result;
  Collector collector(&environment);
  collector.options()->replica_name = HostName();
  collector.options()->lanes = std::max<size_t>(1, Cores() / 2);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    result.action = CommandLine::Action::kHelp;
    result.text = app.help();
    return result;
  } catch (const CLI::ParseError& error) {
    collector.AddFinding(absl::StrCat("command line: ", error.what(), "; see --help"));
  }
  bool after_unknown_flag = false;
  for (const std::string& extra : app.remaining()) {
    const bool is_flag = absl::StartsWith(extra, "-");
    if (is_flag) {
      collector.AddFinding(absl::StrCat(std::string(*absl::StrSplit(extra, '=').begin()), ": is no flag; see --help"));
    } else if (!after_unknown_flag) {
      collector.AddFinding(absl::StrCat(Quoted(extra), ": is not expected here; expected flags; see --help"));
    }
    after_unknown_flag = is_flag;
  }

  if (!config.empty()) collector.ReadConfig(config);
  for (const Field& field : Fields()) {
    if (!field.secret) continue;
    const std::string variable = EnvironmentName(field.name);
    if (const auto value = environment(variable)) collector.Set(field, *value, variable);
  }
  for (const Field& field : Fields()) {
    const std::string flag = "--" + field.name;
    if (app.count(flag) > 0) collector.Set(field, flags[field.name], flag);
  }
  ASSIGN_OR_RETURN(result.options, collector.Finish());
  if (check) {
    result.action = CommandLine::Action::kCheck;
    result.text = "The configuration is right.\n";
  }
  return result;
}

}  // namespace shadowline::server
