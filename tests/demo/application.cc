#include "tests/demo/application.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <pqxx/pqxx>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/executor.h"

namespace shadowline::demo {
namespace {

using support::Witness;

constexpr std::array<const char*, 3> kRegions = {"amer", "apac", "emea"};
constexpr std::array<const char*, 4> kTiers = {"standard", "silver", "gold", "platinum"};
constexpr std::array<const char*, 4> kPermissionNames = {"edit", "share", "billing", "view"};
// Price books, and projects, of a tenant.
constexpr int kItems = 7;
constexpr double kZipfExponent = 0.4;
constexpr std::array<double, kFamilies> kFamilyShares = {0.485, 0.485, 0.03};
// Cards in the deck of a tenant's most popular items; all others have one.
constexpr std::array<size_t, 3> kPopularCards = {3, 2, 2};

// The tree of workload.sql.
int Project(int item) { return 100 * (item + 1); }
int Folder(int item) { return 21 + item; }
int Department(int item) { return 11 + (item + 1) % 6; }
int Division(int item) { return 2 + (Department(item) - 10) % 3; }
// The member whose permissions in a project are asked for, and changed.
int Member(size_t tenant, int item) { return 1 + static_cast<int>(tenant * 31 + static_cast<size_t>(item) * 17) % 200; }

std::string Region(int item) { return kRegions[static_cast<size_t>(item) % kRegions.size()]; }
std::string Tier(int item) { return kTiers[static_cast<size_t>(item) % kTiers.size()]; }

double Weight(size_t tenant) { return std::pow(static_cast<double>(tenant + 1), -kZipfExponent); }

std::string BookScope(absl::string_view tenant, int item) {
  return absl::StrCat("book/", tenant, "/", Region(item), "/", Tier(item));
}

std::string NodeScope(absl::string_view tenant, int node) { return absl::StrCat("node/", tenant, "/", node); }

class QuestionBuilder {
 public:
  QuestionBuilder(Family family, size_t tenant, absl::string_view endpoint) {
    question_.family = family;
    question_.tenant = tenant;
    question_.request.set_tenant(Tenants()[tenant]);
    question_.request.set_endpoint(absl::StrCat(kFamilyNames[family], "/", endpoint));
    question_.text = absl::StrCat(question_.request.endpoint(), " ", Tenants()[tenant]);
  }
  QuestionBuilder& Text(const char* name, const std::string& value) {
    Parameter(name)->set_text(value);
    absl::StrAppend(&question_.text, " ", name, "=", value);
    return *this;
  }
  QuestionBuilder& Integer(const char* name, int64_t value) {
    Parameter(name)->set_integer(value);
    absl::StrAppend(&question_.text, " ", name, "=", value);
    return *this;
  }
  QuestionBuilder& Scopes(std::vector<std::string> scopes) {
    question_.scopes = std::move(scopes);
    return *this;
  }
  Question Build() { return std::move(question_); }

 private:
  shadowline::v1::Value* Parameter(const char* name) {
    shadowline::v1::Parameter* parameter = question_.request.add_parameters();
    parameter->set_name(name);
    return parameter->mutable_value();
  }

  Question question_;
};

// The questions about one price book, or one project, or the orders.
std::vector<Question> QuestionsAbout(Family family, size_t tenant, int item) {
  const std::string& name = Tenants()[tenant];
  switch (family) {
    case kPricing:
      return {QuestionBuilder(family, tenant, "price_list")
                  .Text("region", Region(item))
                  .Text("tier", Tier(item))
                  .Scopes({BookScope(name, item)})
                  .Build(),
              QuestionBuilder(family, tenant, "quote")
                  .Text("region", Region(item))
                  .Text("tier", Tier(item))
                  .Integer("bundle", 1 + item % 6)
                  .Scopes({BookScope(name, item)})
                  .Build()};
    case kPermissions: {
      std::vector<std::string> scopes;
      for (int node : {Project(item), Folder(item), Department(item), Division(item), 1}) {
        scopes.push_back(NodeScope(name, node));
      }
      return {QuestionBuilder(family, tenant, "effective")
                  .Integer("member", Member(tenant, item))
                  .Integer("project", Project(item))
                  .Scopes(scopes)
                  .Build(),
              QuestionBuilder(family, tenant, "who_can")
                  .Integer("project", Project(item))
                  .Text("permission", kPermissionNames[static_cast<size_t>(item) % kPermissionNames.size()])
                  .Scopes(scopes)
                  .Build()};
    }
    case kDashboard:
      if (item > 0) return {};
      return {QuestionBuilder(family, tenant, "summary").Scopes({absl::StrCat("orders/", name)}).Build(),
              QuestionBuilder(family, tenant, "top_customers")
                  .Integer("top", 10)
                  .Scopes({absl::StrCat("orders/", name)})
                  .Build()};
  }
  return {};
}

size_t Cards(int item) {
  return static_cast<size_t>(item) < kPopularCards.size() ? kPopularCards[static_cast<size_t>(item)] : 1;
}

template <typename T>
void Shuffle(std::vector<T>* values, base::Random* random) {
  for (size_t i = values->size(); i > 1; --i) std::swap((*values)[i - 1], (*values)[random->Below(i)]);
}

}  // namespace

const std::vector<std::string>& Tenants() {
  static const auto& tenants = *new std::vector<std::string>{
      "northwind", "bluepeak",   "harbor",     "juniper",   "meridian",  "copperfield", "lakeshore",  "summit",
      "redwood",   "clearwater", "ironbridge", "sandstone", "evergreen", "highland",    "brightside", "fairview",
      "goldcrest", "westgate",   "silverline", "maplewood", "riverbend", "stonehill",   "oakridge",   "windmill",
      "starling",  "foxglove",   "tidewater",  "larkspur",  "millstone", "greenfield",  "bayside",    "thornton",
      "ashford",   "kingsley",   "pinecrest",  "wolcott",   "hazelwood", "dunmore",     "elmhurst",   "yarrow"};
  return tenants;
}

Questions::Questions(uint64_t seed) : random_(seed) {
  double sum = 0;
  for (size_t tenant = 0; tenant < Tenants().size(); ++tenant) {
    sum += Weight(tenant);
    popularity_.push_back(sum);
    for (size_t family = 0; family < kFamilies; ++family) {
      Deck deck;
      for (int item = 0; item < kItems; ++item) {
        for (Question& question : QuestionsAbout(static_cast<Family>(family), tenant, item)) {
          deck.cards.insert(deck.cards.end(), Cards(item), all_.size());
          all_.push_back(std::move(question));
        }
      }
      deck.next = deck.cards.size();
      decks_[family].push_back(std::move(deck));
    }
  }
}

support::Question Questions::Draw() {
  double share = random_.Unit();
  size_t family = 0;
  while (family + 1 < kFamilies && share >= kFamilyShares[family]) share -= kFamilyShares[family++];
  const double point = random_.Unit() * popularity_.back();
  const size_t tenant =
      static_cast<size_t>(std::upper_bound(popularity_.begin(), popularity_.end() - 1, point) - popularity_.begin());
  Deck& deck = decks_[family][tenant];
  if (deck.next == deck.cards.size()) {
    Shuffle(&deck.cards, &random_);
    deck.next = 0;
  }
  const size_t id = deck.cards[deck.next++];
  return {id, &all_[id].request};
}

// What a write changes: the scopes that it bumps, and the tags of what it changes.
struct Writers::Change {
  std::vector<Witness> witnesses;
  std::vector<std::string> tags;
  std::vector<std::string> forgotten;  // Tags that the unmended writer does not think of.
};

// The writer's own connection. Connects again after a failure.
class Writers::Session {
 public:
  explicit Session(const Options& options) : options_(options) {}

  // One write in a transaction of its own. The history is told on both sides of the commit.
  Change Write(size_t tenant, int item, uint64_t nth, const base::Clock& clock, support::History* history) {
    if (connection_ == nullptr) connection_ = std::make_unique<pqxx::connection>(options_.database);
    try {
      pqxx::work work(*connection_);
      const Change change = Apply(work, Tenants()[tenant], tenant, item, nth);
      for (const Witness& witness : change.witnesses)
        history->Committing(witness.scope, witness.version, clock.Steady());
      work.commit();
      for (const Witness& witness : change.witnesses)
        history->Committed(witness.scope, witness.version, clock.Steady());
      return change;
    } catch (const pqxx::failure&) {
      connection_.reset();
      throw;
    }
  }

 private:
  Change Apply(pqxx::work& work, const std::string& name, size_t tenant, int item, uint64_t nth) {
    // A tenant's number is its place in the list, counted from 1.
    const int account = static_cast<int>(tenant) + 1;
    switch (options_.family) {
      case kPricing: {
        const int64_t revision = work.exec_params1(
                                         "UPDATE saas.price_book SET revision = revision + 1 "
                                         "WHERE account_id = $1 AND region = $2 AND tier = $3 RETURNING revision",
                                         account, Region(item), Tier(item))[0]
                                     .as<int64_t>();
        // Up and down again, so that prices do not run away.
        work.exec_params(
            "UPDATE saas.price SET amount = amount + $4::numeric "
            "WHERE account_id = $1 AND region = $2 AND tier = $3 AND product_id % 6 = 1 AND valid_from > DATE "
            "'2024-06-01'",
            account, Region(item), Tier(item), revision % 2 == 0 ? "0.50" : "-0.50");
        return {{{BookScope(name, item), revision}}, {absl::StrCat("prices:", Region(item), ":", Tier(item))}, {}};
      }
      case kPermissions: {
        const int folder = Folder(item);
        const int64_t version = work.exec_params1(
                                        "UPDATE saas.node SET access_version = access_version + 1 "
                                        "WHERE account_id = $1 AND node_id = $2 RETURNING access_version",
                                        account, folder)[0]
                                    .as<int64_t>();
        const pqxx::result revoked = work.exec_params(
            "DELETE FROM saas.access_grant WHERE account_id = $1 AND node_id = $2 AND principal_kind = 'm' AND "
            "principal_id = $3",
            account, folder, Member(tenant, item));
        if (revoked.affected_rows() == 0) {
          work.exec_params("INSERT INTO saas.access_grant VALUES ($1, $2, 'm', $3, 'owner')", account, folder,
                           Member(tenant, item));
        }
        Change change{{{NodeScope(name, folder), version}}, {absl::StrCat("access:", folder)}, {}};
        for (const pqxx::row& below : work.exec_params(
                 "WITH RECURSIVE below AS (SELECT node_id, kind FROM saas.node WHERE account_id = $1 AND parent_id = "
                 "$2 "
                 "UNION ALL SELECT n.node_id, n.kind FROM below JOIN saas.node AS n ON n.parent_id = below.node_id "
                 "WHERE n.account_id = $1 AND n.kind <> 'section') SELECT node_id FROM below",
                 account, folder)) {
          change.forgotten.push_back(absl::StrCat("access:", below[0].as<int>()));
        }
        return change;
      }
      case kDashboard: {
        const int64_t version = work.exec_params1(
                                        "UPDATE saas.account SET orders_version = orders_version + 1 "
                                        "WHERE account_id = $1 RETURNING orders_version",
                                        account)[0]
                                    .as<int64_t>();
        const int64_t order = 100'000 + version;
        work.exec_params("INSERT INTO saas.orders VALUES ($1, $2, $3, $4, DATE '2024-12-20')", account, order,
                         1 + nth % 60, Region(item));
        work.exec_params(
            "INSERT INTO saas.order_line SELECT $1, $2, line, 1 + ($2 * 7 + line) % 240, line, 100 + $2 % 50 "
            "FROM generate_series(1, 3) AS line",
            account, order);
        return {{{absl::StrCat("orders/", name), version}}, {"orders"}, {}};
      }
    }
    return {};
  }

  const Options& options_;
  std::unique_ptr<pqxx::connection> connection_;
};

Writers::Writers(Options options, const base::Clock* clock, support::History* history)
    : options_(std::move(options)),
      clock_(clock),
      history_(history),
      stub_(shadowline::v1::CacheService::NewStub(options_.channel)),
      random_(options_.seed),
      rate_(options_.rate) {
  thread_ = base::StartThread(absl::StrCat("write-", kFamilyNames[options_.family]).substr(0, 15), [this] { Run(); });
}

void Writers::Stop() {
  if (stopping_.exchange(true)) return;
  thread_.join();
}

void Writers::Mend() { mend_ = true; }

void Writers::Run() {
  Session session(options_);
  // Whose turn it is: half of the writes go round, half by popularity; the tenant that lags most behind its share is
  // next.
  double total = 0;
  for (size_t tenant = 0; tenant < Tenants().size(); ++tenant) total += Weight(tenant);
  std::vector<double> credit(Tenants().size(), 0);
  std::vector<std::vector<int>> decks(Tenants().size());
  std::set<std::pair<size_t, std::string>> forgotten;
  absl::Duration due = clock_->Steady();
  for (uint64_t nth = 0; !stopping_; ++nth) {
    due += absl::Seconds(1) / rate_.load();
    const timespec wait = absl::ToTimespec(std::max(due - clock_->Steady(), absl::ZeroDuration()));
    clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, nullptr);
    if (mend_ && !mended_) {
      for (const auto& [tenant, tag] : forgotten) Invalidate(Tenants()[tenant], {tag});
      mended_ = true;
    }
    for (size_t i = 0; i < credit.size(); ++i) {
      credit[i] += 0.5 / static_cast<double>(credit.size()) + 0.5 * Weight(i) / total;
    }
    const size_t tenant = static_cast<size_t>(std::max_element(credit.begin(), credit.end()) - credit.begin());
    credit[tenant] -= 1;
    std::vector<int>& deck = decks[tenant];
    if (deck.empty()) {
      for (int item = 0; item < kItems; ++item) deck.insert(deck.end(), Cards(item), item);
      Shuffle(&deck, &random_);
    }
    const int item = deck.back();
    try {
      Change change = session.Write(tenant, item, nth, *clock_, history_);
      deck.pop_back();
      if (mended_) {
        change.tags.insert(change.tags.end(), change.forgotten.begin(), change.forgotten.end());
      } else if (!change.forgotten.empty()) {
        ++forgotten_;
        for (std::string& tag : change.forgotten) forgotten.emplace(tenant, std::move(tag));
      }
      Invalidate(Tenants()[tenant], change.tags);
      ++writes_;
    } catch (const std::exception&) {
      ++failures_;
    }
  }
}

void Writers::Invalidate(const std::string& tenant, const std::vector<std::string>& tags) {
  shadowline::v1::InvalidateRequest request;
  request.set_tenant(tenant);
  request.mutable_tags()->Assign(tags.begin(), tags.end());
  // What was written is not settled before its invalidation is: try until it is done.
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    shadowline::v1::InvalidateResponse response;
    if (stub_->Invalidate(&context, request, &response).ok()) return;
    ++failures_;
    if (stopping_) return;
    const timespec backoff = absl::ToTimespec(absl::Milliseconds(50));
    clock_nanosleep(CLOCK_MONOTONIC, 0, &backoff, nullptr);
  }
}

}  // namespace shadowline::demo
