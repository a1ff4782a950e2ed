#include "cache/catalog/parse.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/hash.h"
#include "base/status.h"
#include "cache/catalog/capture.h"
#include "cache/catalog/compare_rules.h"
#include "cache/catalog/convert.h"
#include "cache/catalog/findings.h"
#include "cache/catalog/sql.h"
#include "cache/external/json_text.h"
#include "cache/key/key.h"
#include "cache/key/text.h"
#include "diff/compare/path.h"
#include "diff/message/message_reader.h"

namespace shadowline::cache {
namespace {

namespace v1 = shadowline::v1;

constexpr size_t kMaxNameBytes = 63;
constexpr size_t kMaxTenantBytes = 128;
constexpr int kMaxParameters = 64;
constexpr int kMaxTags = 16;
constexpr uint32_t kDefaultMaxLength = 1024;
constexpr uint32_t kMostLength = 1 << 20;
constexpr uint32_t kDefaultCompressAbove = 4096;
constexpr uint32_t kMostWarm = 1000;
constexpr uint32_t kDefaultNoisePpm = 10'000;

bool IsName(absl::string_view text, absl::string_view also) {
  if (text.empty() || text.size() > kMaxNameBytes || !absl::ascii_islower(text[0])) return false;
  return std::all_of(text.begin(), text.end(), [also](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || absl::StrContains(also, absl::string_view(&c, 1));
  });
}

absl::StatusOr<ParameterType> ParseType(absl::string_view name) {
  static constexpr std::pair<absl::string_view, ParameterType> kTypes[] = {
      {"text", ParameterType::kText},          {"integer", ParameterType::kInteger},
      {"number", ParameterType::kNumber},      {"boolean", ParameterType::kBoolean},
      {"text_set", ParameterType::kTextSet},   {"integer_set", ParameterType::kIntegerSet},
      {"text_list", ParameterType::kTextList}, {"integer_list", ParameterType::kIntegerList},
  };
  for (const auto& [known, type] : kTypes) {
    if (known == name) return type;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name.empty() ? "missing" : absl::StrCat("`", name, "` is unknown"),
                   "; expected text, integer, number, boolean, text_set, integer_set, text_list or integer_list"));
}

bool IsScalar(ParameterType type) {
  return type == ParameterType::kText || type == ParameterType::kInteger || type == ParameterType::kNumber ||
         type == ParameterType::kBoolean;
}

// A default is written as text: a list as its elements between commas.
absl::StatusOr<v1::Value> ParseDefault(ParameterType type, const std::string& text) {
  v1::Value value;
  const std::vector<std::string> elements =
      text.empty() ? std::vector<std::string>() : std::vector<std::string>(absl::StrSplit(text, ','));
  switch (type) {
    case ParameterType::kText:
      value.set_text(text);
      return value;
    case ParameterType::kInteger: {
      int64_t integer = 0;
      if (!absl::SimpleAtoi(text, &integer)) return absl::InvalidArgumentError("expected an integer");
      value.set_integer(integer);
      return value;
    }
    case ParameterType::kNumber: {
      double number = 0;
      if (!absl::SimpleAtod(text, &number)) return absl::InvalidArgumentError("expected a number");
      value.set_number(number);
      return value;
    }
    case ParameterType::kBoolean:
      if (text != "true" && text != "false") return absl::InvalidArgumentError("expected true or false");
      value.set_boolean(text == "true");
      return value;
    case ParameterType::kTextSet:
    case ParameterType::kTextList:
      value.mutable_texts();
      for (const std::string& element : elements) {
        value.mutable_texts()->add_values(std::string(absl::StripAsciiWhitespace(element)));
      }
      return value;
    case ParameterType::kIntegerSet:
    case ParameterType::kIntegerList:
      value.mutable_integers();
      for (const std::string& element : elements) {
        int64_t integer = 0;
        if (!absl::SimpleAtoi(element, &integer)) return absl::InvalidArgumentError("expected integers between commas");
        value.mutable_integers()->add_values(integer);
      }
      return value;
  }
  return absl::InternalError("unknown parameter type");
}

bool IsDecimal(absl::string_view text) {
  if (text.empty() || text.size() > 64 || !absl::ascii_isdigit(text.front())) return false;
  double ignored = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ignored);
  return error == std::errc() && end == text.data() + text.size();
}

// Checks one document and compiles its endpoints.
class Compiler {
 public:
  Compiler(const v1::Catalog& document, const ParsedCatalog& places, Findings* findings)
      : document_(document), places_(places), findings_(findings) {}

  std::vector<Endpoint> Run() {
    if (document_.version() != 1) {
      Refuse("version", document_.version() == 0 ? "missing; expected 1" : "unknown version; expected 1");
    }
    CheckTenants();
    for (const auto& [name, base64] : document_.descriptors()) {
      std::string& bytes = descriptors_[name];
      if (!absl::Base64Unescape(base64, &bytes)) {
        Refuse(absl::StrCat("descriptors.", name),
               "not Base64; expected what `protoc --include_imports "
               "--descriptor_set_out` writes, in Base64");
      }
    }
    std::vector<Endpoint> endpoints;
    // Protobuf's maps have no order; the catalog's is by name.
    const std::map<std::string, v1::Family> families(document_.families().begin(), document_.families().end());
    for (const auto& [name, family] : families) {
      const std::string path = absl::StrCat("families.", name);
      if (!IsName(name, "_-")) Refuse(path, "not a name; expected [a-z][a-z0-9_-]{0,62}");
      CheckFamilyPolicy(path, family.policy());
      if (family.endpoints().empty()) Refuse(path, "it has no endpoints; expected at least one");
      const std::map<std::string, v1::Endpoint> declared(family.endpoints().begin(), family.endpoints().end());
      for (const auto& [endpoint_name, endpoint] : declared) {
        endpoints.push_back(CompileEndpoint(name, endpoint_name, endpoint));
      }
    }
    return endpoints;
  }

 private:
  void Refuse(const std::string& path, absl::string_view what) { findings_->Add(places_.At(path), path, what); }

  absl::Duration DurationOr(const std::string& path, const std::string& text, absl::Duration default_value,
                            absl::Duration least, absl::Duration most) {
    if (text.empty()) {
      if (places_.positions.contains(path)) Refuse(path, "empty; expected a duration such as 30s");
      return default_value;
    }
    const absl::StatusOr<absl::Duration> duration = ParseDuration(text);
    if (!duration.ok()) {
      Refuse(path, duration.status().message());
      return default_value;
    }
    if (*duration < least || *duration > most) {
      Refuse(path, absl::StrCat(text, " is out of range; expected ", absl::FormatDuration(least), " to ",
                                absl::FormatDuration(most)));
    }
    return *duration;
  }

  void CheckTenants() {
    const v1::Tenants& tenants = document_.tenants();
    std::set<std::string> seen;
    for (int i = 0; i < tenants.list_size(); ++i) {
      const std::string path = absl::StrCat("tenants.list[", i, "]");
      const std::string& tenant = tenants.list(i);
      if (tenant.empty() || tenant.size() > kMaxTenantBytes) {
        Refuse(path, absl::StrCat("a tenant has 1 to ", kMaxTenantBytes, " bytes"));
      }
      if (!seen.insert(tenant).second) Refuse(path, absl::StrCat("`", tenant, "` is repeated"));
    }
    if (!tenants.query().empty()) {
      const absl::StatusOr<ScannedSql> scanned = ScanSql(tenants.query(), {});
      if (!scanned.ok()) {
        Refuse("tenants.query", scanned.status().message());
      } else if (!scanned->used.empty()) {
        Refuse("tenants.query", absl::StrCat("it has a parameter, `:", *scanned->used.begin(), "`; expected none"));
      }
    }
    DurationOr("tenants.refresh", tenants.refresh(), absl::Minutes(1), absl::Seconds(1), absl::Hours(24));
  }

  void CheckFamilyPolicy(const std::string& path, const v1::Policy& policy) {
    const absl::Status status = CheckPolicy(policy);
    if (status.ok()) return;
    for (absl::string_view finding : absl::StrSplit(status.message(), '\n')) {
      const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(finding, absl::MaxSplits(": ", 1));
      Refuse(absl::StrCat(path, ".policy.", parts.first), parts.second);
    }
  }

  Endpoint CompileEndpoint(const std::string& family, const std::string& name, const v1::Endpoint& declared) {
    const std::string path = absl::StrCat("families.", family, ".endpoints.", name);
    if (!IsName(name, "_-")) Refuse(path, "not a name; expected [a-z][a-z0-9_-]{0,62}");
    Endpoint endpoint;
    endpoint.name = absl::StrCat(family, "/", name);
    endpoint.family = family;
    CompileParameters(path, declared, &endpoint);
    CompileStatement(path, declared, &endpoint);
    CompileTags(path, declared, &endpoint);

    if (declared.result() == "rows") {
      endpoint.shape = ResultShape::kRows;
    } else if (!declared.result().empty() && declared.result() != "row") {
      Refuse(path + ".result", absl::StrCat("`", declared.result(), "` is unknown; expected row or rows"));
    }
    endpoint.freshness = DurationOr(path + ".freshness", declared.freshness(), absl::Seconds(2), absl::Milliseconds(10),
                                    absl::Hours(24));
    endpoint.ttl =
        DurationOr(path + ".ttl", declared.ttl(), absl::Seconds(60), absl::Milliseconds(100), absl::Hours(7 * 24));
    endpoint.negative_ttl = DurationOr(path + ".negative_ttl", declared.negative_ttl(), absl::Seconds(10),
                                       absl::Milliseconds(100), absl::Hours(7 * 24));
    endpoint.timeout =
        DurationOr(path + ".timeout", declared.timeout(), absl::Seconds(5), absl::Milliseconds(1), absl::Seconds(60));
    endpoint.schema = declared.schema() == 0 ? 1 : declared.schema();
    endpoint.compare = declared.compare();
    CheckCompare(path + ".compare", declared.compare());
    endpoint.show_values = declared.evidence() == "show";
    if (!declared.evidence().empty() && declared.evidence() != "show" && declared.evidence() != "redact") {
      Refuse(path + ".evidence", absl::StrCat("`", declared.evidence(), "` is unknown; expected redact or show"));
    }
    endpoint.compress_above = declared.has_compress_above() ? declared.compress_above() : kDefaultCompressAbove;
    endpoint.refresh_early = !declared.has_refresh_early() || declared.refresh_early();
    endpoint.stale_while_revalidate = declared.stale_while_revalidate();
    endpoint.near = declared.near();
    endpoint.warm = declared.warm();
    if (endpoint.warm > kMostWarm) {
      Refuse(path + ".warm", absl::StrCat(endpoint.warm, " is out of range; expected at most ", kMostWarm));
    }
    if (declared.observed()) {
      CompileObserved(path, &endpoint);
    } else if (declared.has_external()) {
      CompileExternal(path, declared.external(), &endpoint);
    }
    CompileVerification(path, declared, &endpoint);
    AddDigests(declared, &endpoint);
    return endpoint;
  }

  // What verification is told about the answer.
  void CompileVerification(const std::string& path, const v1::Endpoint& declared, Endpoint* endpoint) {
    endpoint->owner = declared.owner();
    endpoint->authorization = declared.authorization();
    endpoint->committed_at = declared.committed_at();
    endpoint->row_version = declared.row_version();
    for (const auto& [field, pointer] : {std::pair("owner", &declared.owner()),
                                         {"committed_at", &declared.committed_at()},
                                         {"row_version", &declared.row_version()}}) {
      if (pointer->empty()) continue;
      const absl::StatusOr<JsonPointer> parsed = ParseJsonPointer(*pointer);
      if (!parsed.ok()) {
        Refuse(absl::StrCat(path, ".", field), absl::StrCat("`", *pointer, "`: ", parsed.status().message()));
      }
    }
    if (!endpoint->committed_at.empty() && endpoint->shape == ResultShape::kRows) {
      Refuse(path + ".committed_at",
             "rows that are gone have no time, so nothing follows from those that are there; expected `result: row`");
    }
    if (!endpoint->row_version.empty() && endpoint->shape == ResultShape::kRows) {
      Refuse(path + ".row_version", "rows have each their own, and none is the answer's; expected `result: row`");
    }
    if (absl::StrContains(absl::StrCat(endpoint->row_version, "/"), "/*/")) {
      Refuse(path + ".row_version", absl::StrCat("`", endpoint->row_version, "`: `*` is many places; expected one"));
    }
    endpoint->noise_ppm = declared.has_noise_ppm() ? declared.noise_ppm() : kDefaultNoisePpm;
    if (endpoint->noise_ppm > 1'000'000) {
      Refuse(path + ".noise_ppm", absl::StrCat(endpoint->noise_ppm, " is out of range; expected at most 1000000"));
    }
    endpoint->evidence_ttl = DurationOr(path + ".evidence_ttl", declared.evidence_ttl(), absl::Hours(7 * 24),
                                        absl::Minutes(1), absl::Hours(90 * 24));
  }

  void CompileParameters(const std::string& path, const v1::Endpoint& declared, Endpoint* endpoint) {
    if (declared.parameters_size() > kMaxParameters) {
      Refuse(path + ".parameters", absl::StrCat("more than ", kMaxParameters, " parameters"));
    }
    const std::map<std::string, v1::ParameterSpec> specs(declared.parameters().begin(), declared.parameters().end());
    for (const auto& [name, spec] : specs) {
      const std::string parameter_path = absl::StrCat(path, ".parameters.", name);
      if (!IsName(name, "_")) Refuse(parameter_path, "not a name; expected [a-z][a-z0-9_]{0,62}");
      if (name == "tenant") Refuse(parameter_path, "`tenant` is always there; remove it");
      ParameterDecl& parameter = endpoint->parameters.emplace_back();
      parameter.name = name;
      parameter.fold_case = spec.fold_case();
      parameter.max_length = spec.max_length() == 0 ? kDefaultMaxLength : spec.max_length();
      if (parameter.max_length > kMostLength) {
        Refuse(parameter_path + ".max_length", absl::StrCat("out of range; expected at most ", kMostLength));
      }
      const absl::StatusOr<ParameterType> type = ParseType(spec.type());
      if (!type.ok()) {
        Refuse(parameter_path + ".type", type.status().message());
        continue;
      }
      parameter.type = *type;
      if (spec.fold_case() && *type != ParameterType::kText && *type != ParameterType::kTextSet &&
          *type != ParameterType::kTextList) {
        Refuse(parameter_path + ".fold_case", "only texts have a case; remove it");
      }
      if (spec.has_default_()) {
        absl::StatusOr<v1::Value> value = ParseDefault(*type, spec.default_());
        absl::StatusOr<std::string> canonical =
            value.ok() ? CanonicalValue(parameter, *value) : absl::StatusOr<std::string>(value.status());
        if (canonical.ok()) {
          parameter.default_text = *std::move(canonical);
        } else {
          Refuse(parameter_path + ".default", canonical.status().message());
        }
      }
    }
    std::set<std::string> identity;
    for (int i = 0; i < declared.identity_size(); ++i) {
      const std::string identity_path = absl::StrCat(path, ".identity[", i, "]");
      const std::string& name = declared.identity(i);
      const auto parameter = std::find_if(endpoint->parameters.begin(), endpoint->parameters.end(),
                                          [&name](const ParameterDecl& decl) { return decl.name == name; });
      if (parameter == endpoint->parameters.end()) {
        Refuse(identity_path, absl::StrCat("`", name, "` is not among the parameters; declare it"));
      } else if (!IsScalar(parameter->type)) {
        Refuse(identity_path,
               absl::StrCat("`", name, "` is a list; expected a text, an integer, a number or a boolean"));
      } else {
        parameter->identity = true;
      }
      if (!identity.insert(name).second) Refuse(identity_path, absl::StrCat("`", name, "` is repeated"));
    }
  }

  void CompileStatement(const std::string& path, const v1::Endpoint& declared, Endpoint* endpoint) {
    const std::string sql_path = path + ".sql";
    if (declared.observed()) return;
    if (declared.sql().empty()) return Refuse(sql_path, "missing; expected one SELECT that uses :tenant");
    std::vector<std::string> names = {"tenant"};
    for (const ParameterDecl& parameter : endpoint->parameters) names.push_back(parameter.name);
    absl::StatusOr<ScannedSql> scanned = ScanSql(declared.sql(), names);
    if (!scanned.ok()) return Refuse(sql_path, scanned.status().message());
    if (!scanned->used.contains("tenant")) {
      Refuse(sql_path, "it does not use :tenant; expected a condition such as `tenant_id = :tenant`");
    }
    for (const std::string& used : scanned->used) {
      if (std::find(names.begin(), names.end(), used) == names.end()) {
        Refuse(sql_path, absl::StrCat("`:", used, "` is not declared; add it to the parameters"));
      }
    }
    for (const ParameterDecl& parameter : endpoint->parameters) {
      // Row-level security sees an identity through a setting: the statement need not name it.
      if (!scanned->used.contains(parameter.name) && !parameter.identity) {
        Refuse(absl::StrCat(path, ".parameters.", parameter.name),
               absl::StrCat("the statement does not use `:", parameter.name, "`; use it or remove it"));
      }
    }
    endpoint->sql = std::move(scanned->text);
  }

  void CompileTags(const std::string& path, const v1::Endpoint& declared, Endpoint* endpoint) {
    if (declared.observed()) return;
    if (declared.tags().empty() && !declared.has_external()) {
      Refuse(path + ".tags",
             "missing; expected at least one, such as `account:{account}`: without it nothing can be invalidated");
    }
    if (declared.tags_size() > kMaxTags) Refuse(path + ".tags", absl::StrCat("more than ", kMaxTags, " tags"));
    for (int i = 0; i < declared.tags_size(); ++i) {
      const std::string tag_path = absl::StrCat(path, ".tags[", i, "]");
      endpoint->tags.push_back(CompileTemplate(tag_path, declared.tags(i), *endpoint));
    }
  }

  std::vector<TagPiece> CompileTemplate(const std::string& path, absl::string_view text, const Endpoint& endpoint) {
    std::vector<TagPiece> pieces;
    const absl::StatusOr<std::vector<TemplatePiece>> split = SplitTag(text);
    if (!split.ok()) {
      Refuse(path, split.status().message());
      return pieces;
    }
    for (const TemplatePiece& piece : *split) {
      if (!piece.name) {
        pieces.push_back({piece.text, -1});
        continue;
      }
      if (piece.text == "tenant") {
        pieces.push_back({"", -2});
        continue;
      }
      const auto parameter = std::find_if(endpoint.parameters.begin(), endpoint.parameters.end(),
                                          [&piece](const ParameterDecl& decl) { return decl.name == piece.text; });
      if (parameter == endpoint.parameters.end()) {
        Refuse(path, absl::StrCat("{", piece.text, "} is not a parameter of this endpoint"));
      } else if (!IsScalar(parameter->type)) {
        Refuse(path, absl::StrCat("{", piece.text, "} is a list; only single values can be filled in"));
      } else {
        pieces.push_back({"", static_cast<int>(parameter - endpoint.parameters.begin())});
      }
    }
    return pieces;
  }

  void RefuseDeclared(const std::string& path, std::initializer_list<const char*> fields, absl::string_view why) {
    for (const char* field : fields) {
      const std::string field_path = absl::StrCat(path, ".", field);
      if (places_.positions.contains(field_path)) Refuse(field_path, why);
    }
  }

  void CompileObserved(const std::string& path, Endpoint* endpoint) {
    // What says how a side is read, or kept.
    RefuseDeclared(path,
                   {"sql", "result", "timeout", "ttl", "negative_ttl", "tags", "schema", "compress_above", "near",
                    "refresh_early", "stale_while_revalidate", "warm", "external", "committed_at", "noise_ppm"},
                   "the application reads both sides of this one, so it means nothing here; remove it, or observed");
    endpoint->observed = true;
    endpoint->refresh_early = false;
  }

  void CompileExternal(const std::string& path, const v1::External& declared, Endpoint* endpoint) {
    // What says how Shadowline keeps and fills a value of its own.
    RefuseDeclared(
        path,
        {"ttl", "negative_ttl", "schema", "compress_above", "near", "refresh_early", "stale_while_revalidate", "warm"},
        "the application fills this cache, so it means nothing here; remove it, or external");
    endpoint->refresh_early = false;

    const std::string external_path = path + ".external";
    ExternalCache& external = endpoint->external.emplace();
    external.partial_key = declared.partial_key();
    CompileExternalKey(external_path + ".key", declared.key(), *endpoint, &external);

    const bool envelope = declared.format() == "envelope";
    const bool protobuf = declared.format() == "protobuf";
    external.format = envelope   ? ExternalCache::Format::kEnvelope
                      : protobuf ? ExternalCache::Format::kProtobuf
                                 : ExternalCache::Format::kJson;
    if (!envelope && !protobuf && !declared.format().empty() && declared.format() != "json") {
      Refuse(external_path + ".format",
             absl::StrCat("`", declared.format(), "` is unknown; expected json, envelope or protobuf"));
    }
    if (envelope && declared.payload().empty()) {
      Refuse(external_path + ".payload", "missing; expected where in the envelope the answer is, such as /data");
    }
    if (protobuf) {
      external.message = FindMessage(external_path + ".message", declared.message());
      if (declared.payload().empty() && endpoint->shape == ResultShape::kRows) {
        Refuse(external_path + ".payload",
               "missing; a message is no array: expected where the rows are, such as /rows");
      }
    } else if (!declared.message().empty()) {
      Refuse(external_path + ".message", "only a message has one; remove it, or say `format: protobuf`");
    }
    for (const auto& [field, pointer] : {std::pair("payload", &declared.payload()), {"version", &declared.version()}}) {
      if (pointer->empty()) continue;
      const std::string pointer_path = absl::StrCat(external_path, ".", field);
      if (!envelope && !protobuf) {
        Refuse(pointer_path, "only an envelope has one; remove it, or say `format: envelope`");
      }
      const absl::StatusOr<JsonPointer> parsed = ParseJsonPointer(*pointer);
      if (!parsed.ok()) Refuse(pointer_path, absl::StrCat("`", *pointer, "`: ", parsed.status().message()));
    }
    external.payload = declared.payload();
    external.version = declared.version();

    if (declared.compression() == "gzip") {
      external.compression = ExternalCache::Compression::kGzip;
    } else if (declared.compression() == "zstd") {
      external.compression = ExternalCache::Compression::kZstd;
    } else if (!declared.compression().empty() && declared.compression() != "none") {
      Refuse(external_path + ".compression",
             absl::StrCat("`", declared.compression(), "` is unknown; expected none, gzip or zstd"));
    }
    if (declared.has_not_found()) external.not_found = declared.not_found();
  }

  // In the first of the descriptor sets, by their names, that has it.
  std::shared_ptr<const diff::MessageReader> FindMessage(const std::string& path, const std::string& name) {
    if (name.empty()) {
      Refuse(path, "missing; expected the full name of a message from `descriptors`, such as shop.v1.Quote");
      return nullptr;
    }
    for (const auto& [set_name, bytes] : descriptors_) {
      absl::StatusOr<std::shared_ptr<const diff::MessageReader>> reader = diff::MessageReader::Create(bytes, name);
      if (reader.ok()) return *std::move(reader);
      if (absl::IsNotFound(reader.status())) continue;
      // Said once, whatever uses it.
      if (faulty_descriptors_.insert(set_name).second) {
        Refuse(absl::StrCat("descriptors.", set_name), reader.status().message());
      }
      return nullptr;
    }
    Refuse(path, absl::StrCat("no descriptor set under `descriptors` has a message `", name, "`"));
    return nullptr;
  }

  // Two reads never have one key: everything that an answer depends on is in it, and what is between two values tells
  // them apart. Where it is declared that they do, the key is looked at all the same.
  void CompileExternalKey(const std::string& path, const std::string& declared, const Endpoint& endpoint,
                          ExternalCache* external) {
    if (declared.empty()) {
      return Refuse(path, "missing; expected the application's key, such as `quote:{tenant}:{product}`");
    }
    external->key = CompileTemplate(path, declared, endpoint);
    const auto has = [external](int parameter) {
      return std::any_of(external->key.begin(), external->key.end(),
                         [parameter](const TagPiece& piece) { return piece.parameter == parameter; });
    };
    if (external->key.empty()) return;
    if (!has(-2) && !external->partial_key) Refuse(path, "{tenant} is not in it; two tenants would share a value");
    for (size_t i = 0; i < endpoint.parameters.size() && !external->partial_key; ++i) {
      const std::string& name = endpoint.parameters[i].name;
      if (!IsScalar(endpoint.parameters[i].type)) {
        Refuse(absl::StrCat(path.substr(0, path.rfind(".external")), ".parameters.", name),
               "a list cannot be part of an application's key; expected a text, an integer, a number or a boolean");
      } else if (!has(static_cast<int>(i))) {
        Refuse(path, absl::StrCat("{", name, "} is not in it; reads that differ in `", name, "` would share a value"));
      }
    }
    const TagPiece* before = nullptr;   // The value before,
    const TagPiece* between = nullptr;  // and what follows it.
    for (const TagPiece& piece : external->key) {
      if (piece.parameter == -1) {
        between = &piece;
        continue;
      }
      if (before != nullptr) {
        const std::string delimiters = between == nullptr ? "" : DelimitersIn(between->literal);
        if (delimiters.empty()) {
          Refuse(path, absl::StrCat("nothing tells where ", Named(*before, endpoint), " ends and ",
                                    Named(piece, endpoint), " begins; expected such as `:` between them"));
        }
        external->delimiters += delimiters;
      }
      before = &piece;
      between = nullptr;
    }
  }

  static std::string DelimitersIn(absl::string_view literal) {
    std::string delimiters;
    for (const char c : literal) {
      if (absl::ascii_ispunct(c) || c == ' ') delimiters.push_back(c);
    }
    return delimiters;
  }

  static std::string Named(const TagPiece& piece, const Endpoint& endpoint) {
    return absl::StrCat("{", piece.parameter == -2 ? "tenant" : endpoint.parameters[piece.parameter].name, "}");
  }

  void CheckCompare(const std::string& path, const v1::CompareRules& rules) {
    bool refused = false;
    const auto check = [&](const std::string& at, const absl::Status& status) {
      if (status.ok()) return;
      Refuse(at, status.message());
      refused = true;
    };
    const auto check_paths = [&](absl::string_view field, const auto& texts) {
      for (int i = 0; i < texts.size(); ++i) {
        check(absl::StrCat(path, ".", field, "[", i, "]"), diff::PathPattern::Parse(texts[i]).status());
      }
    };
    for (int i = 0; i < rules.ignore_size(); ++i) {
      check(absl::StrCat(path, ".ignore[", i, "]"), diff::ParsePlace(rules.ignore(i)).status());
    }
    check_paths("instants", rules.instants());
    check_paths("null_is_absent", rules.null_is_absent());
    check_paths("extensible", rules.extensible());
    for (const auto& [where, how] : rules.arrays()) {
      const std::string array_path = absl::StrCat(path, ".arrays.", where);
      check(array_path, diff::PathPattern::Parse(where).status());
      if (how != "list" && how != "multiset" && (!absl::StartsWith(how, "keyed:") || how.size() == 6)) {
        check(array_path, absl::InvalidArgumentError(
                              absl::StrCat("`", how, "` is unknown; expected list, multiset or keyed:FIELD")));
      }
    }
    for (int i = 0; i < rules.tolerance_size(); ++i) {
      const std::string tolerance_path = absl::StrCat(path, ".tolerance[", i, "]");
      const v1::Tolerance& tolerance = rules.tolerance(i);
      check(tolerance_path + ".path", diff::PathPattern::Parse(tolerance.path()).status());
      if (tolerance.absolute().empty() && tolerance.relative().empty()) {
        check(tolerance_path, absl::InvalidArgumentError("neither absolute nor relative is given"));
      }
      for (const auto& [field, text] :
           {std::pair("absolute", &tolerance.absolute()), {"relative", &tolerance.relative()}}) {
        if (!text->empty() && !IsDecimal(*text)) {
          check(absl::StrCat(tolerance_path, ".", field),
                absl::InvalidArgumentError(absl::StrCat("`", *text, "` is no decimal; expected such as 0.01")));
        }
      }
    }
    // What is wrong only of all of them together, such as a contradiction.
    if (!refused) check(path, diff::CompiledRules::Compile(RulesFrom(rules)).status());
  }

  void AddDigests(const v1::Endpoint& declared, Endpoint* endpoint) {
    // Each part after its length: nothing runs into its neighbour.
    std::string statement;
    const auto add = [](std::string* to, absl::string_view part) { absl::StrAppend(to, part.size(), ":", part); };
    add(&statement, endpoint->sql);
    absl::StrAppend(&statement, static_cast<int>(endpoint->shape));
    for (const ParameterDecl& parameter : endpoint->parameters)
      absl::StrAppend(&statement, ",", static_cast<int>(parameter.type));
    if (!endpoint->committed_at.empty()) statement += "@";  // It asks for the time as well.
    endpoint->statement_id = absl::StrCat("sl_", absl::BytesToHexString(base::Digest128(statement)));

    std::string definition = endpoint->statement_id;
    for (const ParameterDecl& parameter : endpoint->parameters) {
      add(&definition, parameter.name);
      definition.push_back(parameter.identity ? '!' : '.');
    }
    for (const std::string& tag : declared.tags()) add(&definition, tag);
    if (declared.has_external()) {
      const v1::External& external = declared.external();
      for (const std::string* part : {&external.key(), &external.format(), &external.payload(), &external.version(),
                                      &external.compression(), &external.not_found()}) {
        add(&definition, *part);
      }
      definition.push_back(external.has_not_found() ? '!' : '.');
      if (!external.message().empty()) {
        add(&definition, external.message());
        for (const auto& [name, bytes] : descriptors_) add(&definition, bytes);
      }
    }
    endpoint->definition_id = absl::BytesToHexString(base::Digest128(definition)).substr(0, 16);
  }

  const v1::Catalog& document_;
  const ParsedCatalog& places_;
  Findings* const findings_;
  std::map<std::string, std::string> descriptors_;  // Decoded.
  std::set<std::string> faulty_descriptors_;
};

}  // namespace

Position ParsedCatalog::At(absl::string_view path) const {
  for (;;) {
    const auto found = positions.find(std::string(path));
    if (found != positions.end()) return found->second;
    const size_t cut = path.find_last_of(".[");
    if (cut == absl::string_view::npos) return {};
    path = path.substr(0, cut);
  }
}

absl::StatusOr<ParsedCatalog> ParseCatalogWithPositions(absl::string_view yaml, uint64_t revision) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const YamlNode> root, ReadYaml(yaml));
  Findings findings;
  ParsedCatalog parsed;
  v1::Catalog document;
  ConvertYaml(*root, &document, &parsed.positions, &findings);
  std::vector<Endpoint> endpoints = Compiler(document, parsed, &findings).Run();
  std::vector<CapturedTable> captured = CompileCapture(document, endpoints, parsed, &findings);
  RETURN_IF_ERROR(findings.Result());
  std::set<std::string> captured_families;
  for (const CapturedTable& table : captured) captured_families.insert(table.families.begin(), table.families.end());
  // No capture invalidates what an application caches by itself.
  for (Endpoint& endpoint : endpoints) {
    endpoint.captured =
        captured_families.contains(endpoint.family) && !endpoint.external.has_value() && !endpoint.observed;
  }
  parsed.catalog =
      std::make_shared<const CompiledCatalog>(revision, std::move(document), std::move(endpoints), std::move(captured));
  return parsed;
}

absl::StatusOr<std::shared_ptr<const CompiledCatalog>> ParseCatalog(absl::string_view yaml, uint64_t revision) {
  ASSIGN_OR_RETURN(ParsedCatalog parsed, ParseCatalogWithPositions(yaml, revision));
  return std::move(parsed.catalog);
}

}  // namespace shadowline::cache
