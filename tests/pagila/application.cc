#include "tests/pagila/application.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/random.h"
#include "tests/demo/application.h"
#include "tests/support/trace.h"

namespace shadowline::pagila {
namespace {

using shadowline::v1::InvalidateRequest;
using support::SharedData;
using support::SourceFolder;

InvalidateRequest Tags(const std::string& tenant, const std::vector<std::string>& tags) {
  InvalidateRequest request;
  request.set_tenant(tenant);
  request.mutable_tags()->Assign(tags.begin(), tags.end());
  return request;
}

constexpr size_t kTenants = 25;
constexpr int64_t kFilms = 1000;
constexpr std::array<const char*, 5> kEndpoints = {"customers/customer", "shop/film", "customers/rentals",
                                                   "billing/payments_by_month", "shop/inventory"};
// Of the customers of a country.
constexpr char kOfCountry[] =
    " JOIN address AS a USING (address_id) JOIN city AS ci USING (city_id) JOIN country AS co USING (country_id)"
    " WHERE co.country = ";

class Pagila final : public Application {
 public:
  Pagila(support::PrivatePostgres* postgres, size_t most) {
    const std::string name = postgres->CreateDatabase();
    postgres->RunScript(name, SharedData() + "pagila.sql");
    database_ = postgres->ConnectionString(name);
    pqxx::connection connection(database_);
    pqxx::work work(connection);
    work.exec("ANALYZE");
    for (const pqxx::row& row :
         work.exec("SELECT co.country, array_to_string(array_agg(c.customer_id ORDER BY c.customer_id), ',') FROM "
                   "customer AS c"
                   " JOIN address USING (address_id) JOIN city USING (city_id) JOIN country AS co USING (country_id)"
                   " GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT " +
                   pqxx::to_string(kTenants))) {
      Country country{row[0].as<std::string>(), {}};
      for (absl::string_view id : absl::StrSplit(row[1].as<std::string>(), ',')) {
        country.customers.emplace_back();
        if (!absl::SimpleAtoi(id, &country.customers.back())) throw std::runtime_error("a customer's id");
      }
      countries_.push_back(std::move(country));
    }
    work.commit();
    ReadTrace(most);
  }

  const char* name() const override { return "pagila"; }
  std::string catalog() const override { return SourceFolder() + "/tests/pagila/catalog.yaml"; }

  std::vector<InvalidateRequest> Write(pqxx::work& work, Operation::Kind kind, const Question& question,
                                       int64_t nth) override {
    const std::string& country = question.tenant();
    const std::string mark = absl::StrCat("replay ", nth);
    if (question.endpoint() == "shop/film") {
      const std::string film = ParameterText(question, "film");
      if (kind == Operation::kBulkUpdate) {
        work.exec_params(absl::StrCat("UPDATE film SET description = $2 WHERE film_id IN (SELECT i.film_id FROM rental"
                                      " JOIN inventory AS i USING (inventory_id) JOIN customer USING (customer_id)",
                                      kOfCountry, "$1)"),
                         country, mark);
        return InEveryCountry({"films"});
      }
      if (kind == Operation::kDelete) {
        work.exec_params(
            "DELETE FROM film_actor WHERE film_id = $1 AND actor_id = (SELECT min(actor_id) FROM film_actor WHERE "
            "film_id = $1)",
            film);
      } else {
        work.exec_params("UPDATE film SET description = $2 WHERE film_id = $1", film, mark);
      }
      return InEveryCountry({"film:" + film});
    }
    if (question.endpoint() == "shop/inventory") {
      const std::string store = ParameterText(question, "store");
      const std::string film = ParameterText(question, "film");
      if (kind == Operation::kBulkUpdate) {
        // Its trigger stamps last_update.
        work.exec_params(
            absl::StrCat("UPDATE inventory SET store_id = store_id WHERE inventory_id IN (SELECT inventory_id"
                         " FROM rental JOIN customer USING (customer_id)",
                         kOfCountry, "$1)"),
            country);
        return InEveryCountry({"inventory"});
      }
      if (kind == Operation::kDelete) {
        return DeleteRental(work, country,
                            work.exec_params(absl::StrCat("SELECT rental_id FROM rental JOIN inventory AS i USING"
                                                          " (inventory_id) JOIN customer USING (customer_id)",
                                                          kOfCountry,
                                                          "$1 AND i.store_id = $2 AND i.film_id = $3"
                                                          " ORDER BY rental_id DESC LIMIT 1"),
                                             country, store, film));
      }
      // One copy moves to the other store.
      work.exec_params(
          "UPDATE inventory SET store_id = 3 - store_id WHERE inventory_id ="
          " (SELECT min(inventory_id) FROM inventory WHERE store_id = $1 AND film_id = $2)",
          store, film);
      return InEveryCountry({"inventory:1:" + film, "inventory:2:" + film});
    }
    const std::string customer = ParameterText(question, "customer");
    if (question.endpoint() == "customers/customer") {
      if (kind == Operation::kBulkUpdate) {
        work.exec_params(
            absl::StrCat("UPDATE customer SET email = $2 WHERE customer_id IN (SELECT customer_id FROM customer",
                         kOfCountry, "$1)"),
            country, mark);
        return {Tags(country, {"customers"})};
      }
      // Whoever was deactivated comes back with the next update.
      work.exec_params("UPDATE customer SET email = $2, activebool = $3 WHERE customer_id = $1", customer, mark,
                       kind != Operation::kDelete);
      return {Tags(country, {"customer:" + customer})};
    }
    if (question.endpoint() == "customers/rentals") {
      if (kind == Operation::kBulkUpdate) {
        work.exec_params(
            absl::StrCat("UPDATE rental SET return_date = return_date + interval '1 second' WHERE customer_id IN"
                         " (SELECT customer_id FROM customer",
                         kOfCountry, "$1)"),
            country);
        return {Tags(country, {"rentals"})};
      }
      const pqxx::result newest = work.exec_params(
          "SELECT rental_id FROM rental WHERE customer_id = $1 ORDER BY rental_date DESC, rental_id DESC LIMIT 1",
          customer);
      if (kind == Operation::kDelete) return DeleteRental(work, country, newest);
      if (!newest.empty()) {
        work.exec_params("UPDATE rental SET return_date = rental_date + $2 * interval '1 second' WHERE rental_id = $1",
                         newest[0][0].as<int64_t>(), nth);
      }
      return {Tags(country, {"rentals:" + customer})};
    }
    if (kind == Operation::kBulkUpdate) {
      work.exec_params(absl::StrCat("UPDATE payment SET amount = amount + 0.01 WHERE customer_id IN"
                                    " (SELECT customer_id FROM customer",
                                    kOfCountry, "$1)"),
                       country);
      return {Tags(country, {"payments"})};
    }
    work.exec_params(
        absl::StrCat(kind == Operation::kDelete ? "DELETE FROM payment" : "UPDATE payment SET amount = amount + 0.01",
                     " WHERE customer_id = $1 AND payment_id = (SELECT max(payment_id) FROM payment WHERE"
                     " customer_id = $1)"),
        customer);
    return {Tags(country, {"payments:" + customer})};
  }

 private:
  struct Country {
    std::string name;
    std::vector<int64_t> customers;
  };

  // Times and TTLs are left out: the replay keeps the order alone.
  void ReadTrace(size_t most) {
    const auto trace = support::ReadTrace();
    if (!trace.has_value()) throw std::runtime_error("the shared data has no trace");
    // Which endpoint a family is must not depend on how much of the trace is read.
    std::map<std::string, size_t> families;
    for (const support::Access& access : *trace) families[access.family] = 0;
    size_t rank = 0;
    for (auto& [family, place] : families) place = rank++;
    std::map<std::string, size_t> seen;  // Entities of each family, in the order of their first appearance.
    std::map<std::pair<std::string, std::string>, size_t> entities;
    std::map<std::string, size_t> index;
    for (size_t i = 0; i < std::min(most, trace->size()); ++i) {
      const support::Access& access = (*trace)[i];
      const auto [entity, fresh] = entities.try_emplace({access.family, access.id}, seen[access.family]);
      if (fresh) ++seen[access.family];
      size_t country = 0;
      if (!absl::SimpleAtoi(access.tenant.substr(1), &country)) {
        throw std::runtime_error("a tenant's number: " + access.tenant);
      }
      const Question question = About(countries_.at(country), families[access.family], entity->second);
      const auto [at, unknown] = index.try_emplace(question.SerializeAsString(), questions_.size());
      if (unknown) questions_.push_back(question);
      operations_.push_back({access.kind, at->second});
    }
  }

  static Question About(const Country& country, size_t family, size_t entity) {
    Question question;
    question.set_tenant(country.name);
    question.set_endpoint(kEndpoints[family % kEndpoints.size()]);
    const auto add = [&question](const char* name, int64_t value) {
      auto* parameter = question.add_parameters();
      parameter->set_name(name);
      parameter->mutable_value()->set_integer(value);
    };
    // Families that share an endpoint begin at different rows.
    const size_t row = entity + 7 * (family / kEndpoints.size());
    if (question.endpoint() == "shop/film") {
      add("film", 1 + static_cast<int64_t>(row) % kFilms);
    } else if (question.endpoint() == "shop/inventory") {
      add("store", 1 + static_cast<int64_t>(row) % 2);
      add("film", 1 + static_cast<int64_t>(row) / 2 % kFilms);
    } else {
      add("customer", country.customers[row % country.customers.size()]);
    }
    return question;
  }

  std::vector<InvalidateRequest> InEveryCountry(const std::vector<std::string>& tags) const {
    std::vector<InvalidateRequest> requests;
    for (const Country& country : countries_) requests.push_back(Tags(country.name, tags));
    return requests;
  }

  // Takes a rental away, with what was paid for it: three endpoints change. `rental` has one row or none.
  static std::vector<InvalidateRequest> DeleteRental(pqxx::work& work, const std::string& country,
                                                     const pqxx::result& rental) {
    if (rental.empty()) return {};
    const auto id = rental[0][0].as<int64_t>();
    std::set<std::string> tags;
    for (const pqxx::row& paid :
         work.exec_params("DELETE FROM payment WHERE rental_id = $1 RETURNING customer_id", id)) {
      tags.insert(absl::StrCat("payments:", paid[0].as<int64_t>()));
    }
    const pqxx::row gone = work.exec_params1(
        "DELETE FROM rental AS r USING inventory AS i WHERE i.inventory_id = r.inventory_id AND rental_id = $1"
        " RETURNING r.customer_id, i.store_id, i.film_id",
        id);
    tags.insert(absl::StrCat("rentals:", gone[0].as<int64_t>()));
    tags.insert(absl::StrCat("inventory:", gone[1].as<int64_t>(), ":", gone[2].as<int64_t>()));
    return {Tags(country, {tags.begin(), tags.end()})};
  }

  std::vector<Country> countries_;
};

// Fewer tenants than the demo has: its statements are slow on purpose.
constexpr size_t kDemoTenants = 3;
// Operations of each kind in 100,000, as in the trace; the rest are reads.
constexpr uint64_t kUpdates = 4596;
constexpr uint64_t kDeletes = 256;
constexpr uint64_t kBulkUpdates = 119;

class Demo final : public Application {
 public:
  Demo(support::PrivatePostgres* postgres, size_t most, uint64_t seed) {
    const std::string name = postgres->CreateDatabase();
    postgres->RunScript(name, SourceFolder() + "/tests/demo/workload.sql");
    database_ = postgres->ConnectionString(name);
    demo::Questions source(seed);
    base::Random random(seed + 1);
    std::map<size_t, size_t> index;
    while (operations_.size() < most) {
      const size_t drawn = source.Draw().id;
      if (source.all()[drawn].tenant >= kDemoTenants) continue;
      const auto [at, unknown] = index.try_emplace(drawn, questions_.size());
      if (unknown) questions_.push_back(source.all()[drawn].request);
      const uint64_t point = random.Below(100'000);
      Operation::Kind kind = Operation::kRead;
      if (point < kBulkUpdates) {
        kind = Operation::kBulkUpdate;
      } else if (point < kBulkUpdates + kDeletes) {
        kind = Operation::kDelete;
      } else if (point < kBulkUpdates + kDeletes + kUpdates) {
        kind = Operation::kUpdate;
      }
      operations_.push_back({kind, at->second});
    }
  }

  const char* name() const override { return "demo"; }
  std::string catalog() const override { return SourceFolder() + "/tests/demo/catalog.yaml"; }

  std::vector<InvalidateRequest> Write(pqxx::work& work, Operation::Kind kind, const Question& question,
                                       int64_t nth) override {
    const std::string& slug = question.tenant();
    const auto account =
        work.exec_params1("SELECT account_id FROM saas.account WHERE slug = $1 FOR UPDATE", slug)[0].as<int64_t>();
    const absl::string_view endpoint = question.endpoint();
    const std::string family(endpoint.substr(0, endpoint.find('/')));
    if (family == "pricing") return WritePricing(work, kind, question, account);
    if (family == "permissions") return WritePermissions(work, kind, question, account, nth);
    const auto version = work.exec_params1(
                                 "UPDATE saas.account SET orders_version = orders_version + 1 WHERE account_id = $1"
                                 " RETURNING orders_version",
                                 account)[0]
                             .as<int64_t>();
    if (kind == Operation::kUpdate) {
      work.exec_params("INSERT INTO saas.orders VALUES ($1, $2, $3, 'emea', DATE '2024-12-20')", account,
                       100'000 + version, 1 + nth % 60);
      work.exec_params(
          "INSERT INTO saas.order_line SELECT $1, $2, line, line, line, 100 FROM generate_series(1, 3) AS line",
          account, 100'000 + version);
    } else if (kind == Operation::kDelete) {
      const auto order =
          work.exec_params1("SELECT max(order_id) FROM saas.orders WHERE account_id = $1", account)[0].as<int64_t>();
      work.exec_params("DELETE FROM saas.order_line WHERE account_id = $1 AND order_id = $2", account, order);
      work.exec_params("DELETE FROM saas.orders WHERE account_id = $1 AND order_id = $2", account, order);
    } else {
      work.exec_params("UPDATE saas.order_line SET amount = amount + 0.01 WHERE account_id = $1", account);
    }
    return {Tags(slug, {"orders"})};
  }

 private:
  static std::vector<InvalidateRequest> WritePricing(pqxx::work& work, Operation::Kind kind, const Question& question,
                                                     int64_t account) {
    const std::string region = ParameterText(question, "region");
    const std::string tier = ParameterText(question, "tier");
    // One price book; or, where a promotion ends, those of its region; or all.
    const std::string books = kind == Operation::kUpdate   ? " AND region = $2 AND tier = $3"
                              : kind == Operation::kDelete ? " AND region = $2 AND $3 <> ''"
                                                           : " AND $2 <> $3";
    std::vector<std::string> tags;
    for (const pqxx::row& book :
         work.exec_params("UPDATE saas.price_book SET revision = revision + 1 WHERE account_id = $1" + books +
                              " RETURNING region, tier",
                          account, region, tier)) {
      tags.push_back(absl::StrCat("prices:", book[0].as<std::string>(), ":", book[1].as<std::string>()));
    }
    if (kind == Operation::kDelete) {
      work.exec_params(
          "DELETE FROM saas.promotion WHERE account_id = $1 AND promotion_id ="
          " (SELECT min(promotion_id) FROM saas.promotion WHERE account_id = $1 AND region = $2)",
          account, region);
    } else {
      work.exec_params("UPDATE saas.price SET amount = amount + 0.50 WHERE account_id = $1" + books +
                           " AND product_id % 6 = 1 AND valid_from > DATE '2024-06-01'",
                       account, region, tier);
    }
    return {Tags(question.tenant(), tags)};
  }

  static std::vector<InvalidateRequest> WritePermissions(pqxx::work& work, Operation::Kind kind,
                                                         const Question& question, int64_t account, int64_t nth) {
    const std::string project = ParameterText(question, "project");
    std::vector<std::string> tags;
    if (kind == Operation::kBulkUpdate) {
      for (const pqxx::row& node : work.exec_params("UPDATE saas.node SET access_version = access_version + 1"
                                                    " WHERE account_id = $1 AND kind = 'project' RETURNING node_id",
                                                    account)) {
        tags.push_back(absl::StrCat("access:", node[0].as<int64_t>()));
      }
      return {Tags(question.tenant(), tags)};
    }
    work.exec_params("UPDATE saas.node SET access_version = access_version + 1 WHERE account_id = $1 AND node_id = $2",
                     account, project);
    if (kind == Operation::kDelete) {
      work.exec_params(
          "DELETE FROM saas.access_grant WHERE account_id = $1 AND node_id = $2 AND principal_id ="
          " (SELECT min(principal_id) FROM saas.access_grant WHERE account_id = $1 AND node_id = $2)",
          account, project);
    } else {
      work.exec_params("INSERT INTO saas.access_grant VALUES ($1, $2, 'm', $3, 'owner') ON CONFLICT DO NOTHING",
                       account, project, 1 + nth % 200);
    }
    return {Tags(question.tenant(), {"access:" + project})};
  }
};

}  // namespace

std::string ParameterText(const Question& question, const std::string& name) {
  for (const auto& parameter : question.parameters()) {
    if (parameter.name() != name) continue;
    const auto& value = parameter.value();
    return value.kind_case() == shadowline::v1::Value::kText ? value.text() : absl::StrCat(value.integer());
  }
  throw std::logic_error(question.endpoint() + " has no parameter " + name);
}

std::unique_ptr<Application> LoadPagila(support::PrivatePostgres* postgres, size_t most) {
  if (!std::filesystem::exists(SharedData() + "pagila.sql")) return nullptr;
  return std::make_unique<Pagila>(postgres, most);
}

std::unique_ptr<Application> LoadDemo(support::PrivatePostgres* postgres, size_t most, uint64_t seed) {
  return std::make_unique<Demo>(postgres, most, seed);
}

}  // namespace shadowline::pagila
