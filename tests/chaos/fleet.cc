#include "tests/chaos/fleet.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cache/catalog/parse.h"
#include "cache/key/key.h"
#include "tests/support/await.h"

namespace shadowline::chaos {
namespace {

namespace v1 = shadowline::v1;

constexpr const char* kTenants[] = {"acme", "globex"};
constexpr const char* kNames[kEndpoints] = {"stock/item", "stock/near", "stock/slow", "stock/brief", "stock/counted"};

// `dawdle` and `told` are declared STABLE, as all functions of the catalog's statements have to be.
constexpr char kSchema[] = R"sql(
CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL, present boolean NOT NULL, PRIMARY KEY (tenant, id));
CREATE FUNCTION dawdle(seconds double precision) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
  BEGIN PERFORM pg_sleep(seconds); RETURN true; END $$;
CREATE FUNCTION told(id bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
  BEGIN PERFORM pg_notify('loads', id::text); RETURN true; END $$;
)sql";

std::string Catalog(const Fleet::Options& options) {
  const auto endpoint = [&](const std::string& name, const std::string& and_also, const std::string& also,
                            const std::string& ttl = "10m") {
    return absl::StrCat("      ", name, ":\n        sql: SELECT 'item/' || tenant || '/' || id || '=' || version AS ",
                        "versions FROM item WHERE tenant = :tenant AND id = :id AND present", and_also,
                        "\n        parameters: {id: {type: integer}}\n        tags: [\"item:{id}\"]\n",
                        "        freshness: ", absl::FormatDuration(options.freshness), "\n        ttl: ", ttl,
                        "\n        negative_ttl: ", ttl, "\n        timeout: 10s\n", also);
  };
  return absl::StrCat(
      "version: 1\ntenants: {list: [acme, globex]}\nfamilies:\n  stock:\n    endpoints:\n", endpoint("item", "", ""),
      endpoint("near", "", "        near: true\n"),
      endpoint("slow", " AND dawdle(CASE WHEN random() < 0.1 THEN 0.3 + random() ELSE 0 END)", ""),
      endpoint("brief", "", "        stale_while_revalidate: true\n        warm: 5\n", "300ms"),
      endpoint("counted", " AND told(id) AND dawdle(0.1)", ""),
      "    policy: {ramp_ppm: [1000000], cache_sample_ppm: ", options.sample_ppm, "}\n",
      options.capture ? "capture:\n  tables:\n    public.item: {tenant: \"{tenant}\", tags: [\"item:{id}\"]}\n" : "");
}

}  // namespace

std::string Fleet::Row::Body() const {
  return present ? absl::StrCat("{\"versions\":\"item/", tenant, "/", id, "=", version, "\"}") : "";
}
std::string Fleet::Row::Tag() const { return absl::StrCat("item:", id); }

std::vector<std::unique_ptr<support::Node>> StartNodes(const NodesOptions& options) {
  std::vector<std::unique_ptr<support::Node>> nodes;
  for (size_t i = 0; i < options.replicas; ++i) {
    nodes.push_back(std::make_unique<support::Node>(support::Shadowlined::Options{
        .name = absl::StrCat("replica-", i),
        .source = options.source,
        .redis = options.redis,
        .extra_config = "lanes: 1\ncontroller: {tick: 100ms}\nevidence: {flush: 200ms}\n" + options.extra_config,
        .await_ready = false}));
  }
  nodes[0]->Apply(options.yaml);
  for (auto& node : nodes) node->server.AwaitReady();
  nodes[0]->Promote(options.family, options.tenants);
  for (auto& node : nodes) {
    const bool knows = support::AwaitTrue(kLimit, [&] { return node->Promoted(options.family, options.tenants); });
    if (!knows) throw std::runtime_error("a replica does not hear of the promotion:\n" + node->server.Log());
  }
  return nodes;
}

Fleet::Fleet(const Options& options) : rows_(options.rows), database_(postgres_.CreateDatabase()) {
  std::vector<std::string> bodies;
  for (size_t i = 0; i < rows_; ++i) {
    table_.push_back({.tenant = kTenants[i % 2], .id = static_cast<int64_t>(i / 2)});
    bodies.push_back(table_.back().Body());
    for (const char* name : kNames) {
      v1::ReadRequest request;
      request.set_tenant(table_.back().tenant);
      request.set_endpoint(name);
      auto* parameter = request.add_parameters();
      parameter->set_name("id");
      parameter->mutable_value()->set_integer(table_.back().id);
      requests_.push_back(std::move(request));
    }
  }
  judge_ = std::make_unique<support::Judge>(bodies, options.freshness);
  {
    pqxx::connection connection(source());
    pqxx::work work(connection);
    work.exec(kSchema);
    for (size_t i = 0; i < 2; ++i) {
      work.exec(absl::StrCat("INSERT INTO item SELECT '", kTenants[i], "', id, 1, true FROM generate_series(0, ",
                             (rows_ + 1) / 2, ") AS id"));
    }
    work.commit();
  }
  const std::string yaml = Catalog(options);
  nodes_ = StartNodes({.source = source(),
                       .redis = options.redis,
                       .extra_config = options.extra_config,
                       .replicas = options.replicas,
                       .yaml = yaml,
                       .family = "stock",
                       .tenants = std::size(kTenants)});
  auto catalog = cache::ParseCatalog(yaml, 1);
  if (!catalog.ok()) throw std::runtime_error(std::string(catalog.status().message()));
  catalog_ = *std::move(catalog);
  for (const char* tenant : kTenants) epochs_[tenant] = nodes_[0]->Epoch(tenant, "stock");
}

std::vector<std::shared_ptr<grpc::Channel>> Fleet::channels() const {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (const auto& node : nodes_) channels.push_back(node->channel);
  return channels;
}

support::Opinion Fleet::Judge(size_t id, const v1::ReadResponse& response, absl::Duration sent,
                              absl::Duration received) const {
  // What was not found has no body, and what was found has one: else it is an answer that never was.
  if (response.found() == response.body().empty()) return {};
  return judge_->Of(id / kEndpoints, response.body(), sent, received);
}

uint64_t Fleet::Commit(pqxx::connection* connection, size_t number, const Write& how, uint64_t turn) {
  Row& row = table_[number];
  uint64_t repeated = 0;
  const auto invalidate = [&](const std::vector<uint64_t>& transactions) {
    const bool acknowledged = support::AwaitTrue(10 * kLimit, [&] {
      if (nodes_[turn++ % nodes_.size()]->Invalidate(row.tenant, {row.Tag()}, transactions).ok()) return true;
      ++repeated;
      return false;
    });
    if (!acknowledged) throw std::runtime_error("an invalidation was never acknowledged");
  };
  pqxx::work work(*connection);
  row.version += 1;
  if (how.flip) row.present = !row.present;
  work.exec_params("UPDATE item SET version = $1, present = $2 WHERE tenant = $3 AND id = $4", row.version, row.present,
                   row.tenant, row.id);
  if (how.ahead) {
    invalidate({work.exec1("SELECT pg_current_xact_id()::text")[0].as<uint64_t>()});
    if (how.hold > absl::ZeroDuration()) work.exec_params("SELECT pg_sleep($1)", absl::ToDoubleSeconds(how.hold));
  }
  const int64_t version = judge_->Committing(number, row.Body(), clock_.Steady());
  work.commit();
  judge_->Committed(number, version, clock_.Steady());
  if (how.forget) return repeated;
  if (!how.pretend && (!how.ahead || how.fences_get_lost)) invalidate({});
  judge_->Invalidated(number, version, clock_.Steady());
  return repeated;
}

bool Fleet::CommitCaptured(pqxx::connection* connection, size_t number, uint64_t turn) {
  Row& row = table_[number];
  std::string position;
  {
    pqxx::work work(*connection);
    row.version += 1;
    work.exec_params("UPDATE item SET version = $1 WHERE tenant = $2 AND id = $3", row.version, row.tenant, row.id);
    const int64_t version = judge_->Committing(number, row.Body(), clock_.Steady());
    work.commit();
    judge_->Committed(number, version, clock_.Steady());
  }
  {
    pqxx::nontransaction work(*connection);
    position = work.exec1("SELECT pg_current_wal_insert_lsn()")[0].as<std::string>();
  }
  v1::ReadRequest request = requests_[Id(number, turn % 2 == 0 ? Endpoint::kItem : Endpoint::kNear)];
  request.set_at_least(position);
  const support::Answer answer = nodes_[turn % nodes_.size()]->Read(request);
  return !answer.status.ok() || answer.response.body() == row.Body();
}

void Fleet::Heal() {
  constexpr size_t kTagsPerCall = 200;
  std::map<std::string, std::vector<std::string>> tags;
  const auto invalidate = [&](const std::string& tenant) {
    const grpc::Status status = nodes_[0]->Invalidate(tenant, std::exchange(tags[tenant], {}));
    if (!status.ok()) throw std::runtime_error("heal: " + status.error_message());
  };
  for (const Row& row : table_) {
    tags[row.tenant].push_back(row.Tag());
    if (tags[row.tenant].size() == kTagsPerCall) invalidate(row.tenant);
  }
  for (const char* tenant : kTenants) {
    if (!tags[tenant].empty()) invalidate(tenant);
  }
}

std::string Fleet::CacheKey(size_t id) const {
  const v1::ReadRequest& request = requests_[id];
  const cache::Endpoint* endpoint = catalog_->Find(request.endpoint());
  return cache::CacheKey(*endpoint, request.tenant(), epochs_.at(request.tenant()),
                         cache::CanonicalArguments(*endpoint, request).value());
}

std::string Fleet::FenceKey(size_t row) const { return cache::FenceKey(table_[row].tenant, table_[row].Tag()); }

double Fleet::Metric(const std::string& name, const std::string& label) const {
  double sum = 0;
  for (const auto& node : nodes_) sum += node->Metric(name, label);
  return sum;
}

std::string Fleet::Logs() const {
  std::string logs;
  for (const auto& node : nodes_) absl::StrAppend(&logs, "---- ", node->server.address(), "\n", node->server.Log());
  return logs;
}

}  // namespace shadowline::chaos
