#include "tests/verdicts/bugs.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "tests/verdicts/canaries.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;
using nlohmann::json;

using Answer = std::optional<std::string>;

// A script through psql, past every hook of the application.
void RunScript(Stage& stage, const std::string& sql) {
  const support::ScratchFolder folder("script");
  const std::string path = folder.path() + "/script.sql";
  std::ofstream(path) << sql;
  World& world = stage.app->world();
  world.postgres().RunScript(world.database(), path);
}

// ---- Races ----

Bug StaleSetAfterDelete() {
  Bug bug{.id = "Z01"};
  bug.careless = [](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    app.Drop(row);
    const Answer loaded = app.Load(row);  // The reader stands still here,
    stage.harm();
    app.Update(row);
    app.Drop(row);
    app.Store(row, loaded);  // and goes on.
    stage.look(row);
  };
  bug.managed_how = "a fill begun before the change is kept out by the tag's fence, which names the transaction";
  return bug;
}

Bug InvalidateBeforeCommit() {
  Bug bug{.id = "Z03"};
  bug.careless = [](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    pqxx::connection writer(app.world().source());
    pqxx::work work(writer);
    work.exec(app.Fill(app.endpoint().update, row));
    app.Drop(row);
    stage.look(row);  // Misses, and fills with what is still committed.
    stage.harm();
    work.commit();
    app.NoteChange(row);
    stage.look(row);
  };
  bug.managed = bug.careless;
  bug.managed_how =
      "changes are captured at their commit, and a fill of an older snapshot is no answer behind the fence";
  return bug;
}

Bug HealthyLag() {
  Bug bug{.id = "Z06"};
  bug.endpoint.freshness = kManagedFreshness;
  bug.write = [](Stage& stage, const Question& row) {
    if (stage.app->managed()) {
      stage.app->Write(row);
      return stage.look(row);
    }
    const absl::Duration lag = absl::Milliseconds(5 + static_cast<int64_t>(stage.random->Below(46)));
    stage.app->Get(row);
    stage.harm();
    stage.app->Write(row, [&] {
      stage.look(row);
      Pass(stage.app->world().clock(), lag);
    });
  };
  bug.managed_how = "captured changes are fenced within milliseconds; answers stay within the bound";
  return bug;
}

Bug ReplicaLagRefill() {
  Bug bug{.id = "Z07"};
  const auto standby = std::make_shared<std::unique_ptr<pqxx::connection>>();
  const auto load_there = [standby](Application& app, const Question& row) {
    if (*standby == nullptr) *standby = std::make_unique<pqxx::connection>(app.world().standby_source());
    return app.Load(row, standby->get());
  };
  bug.careless = [load_there](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    stage.harm();
    app.Update(row);
    app.Drop(row);
    app.Store(row, load_there(app, row));
    stage.look(row);
  };
  bug.naive_control = load_there;
  bug.managed_how =
      "fills come from the declared source, and a fill from a replica is held to the fence's transactions";
  return bug;
}

Bug BundleRewritten() {
  Bug bug{.id = "Z10"};
  bug.endpoint.sql =
      "SELECT json_object_agg(name, value ORDER BY name) AS options FROM setting WHERE tenant = :tenant AND id = :id";
  bug.endpoint.update = "UPDATE setting SET value = value + 1 WHERE tenant = :tenant AND id = :id AND name = 'a'";
  const std::string second = "UPDATE setting SET value = value + 1 WHERE tenant = :tenant AND id = :id AND name = 'b'";
  bug.careless = [second](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    const json before = json::parse(*app.Get(row));  // By both sessions.
    stage.harm();
    app.Write(row);  // The first writes its field, and its bundle.
    app.Execute(second, row);
    json bundle = before;  // The second as well: it has the first one's old value.
    bundle["options"]["b"] = json::parse(*app.Load(row))["options"]["b"];
    app.Store(row, bundle.dump());
    stage.look(row);
  };
  bug.managed = [second](Stage& stage) {
    const Question row = stage.Victim();
    stage.look(row);
    stage.app->Update(row);
    stage.app->Execute(second, row);
    stage.look(row);
  };
  bug.managed_how = "nobody writes a cached value but from one statement's snapshot of the database";
  return bug;
}

// ---- Negative entries ----

Bug NegativeEntryStays() {
  Bug bug{.id = "Z12"};
  bug.careless = [](Stage& stage) {
    const int64_t first = stage.app->managed() ? 200'000 : 100'000;
    const Question row{stage.tenants[0], first + static_cast<int64_t>(stage.turn), ""};
    stage.look(row);
    stage.harm();
    stage.app->Execute(absl::StrCat("INSERT INTO item VALUES (:tenant, :id, 1, '", Canary(), " new')"), row);
    stage.look(row);
  };
  bug.managed = bug.careless;
  bug.managed_how = "an inserted row's tags are captured, and \"not found\" is a value behind the same fences";
  return bug;
}

// ---- Missed invalidations ----

Bug BulkUpdate() {
  Bug bug{.id = "Z16"};
  const std::string bulk = "UPDATE item SET version = version + 1 WHERE tenant = ";
  // The tenant that is changed as a whole is read so seldom that one read in five hundred is of it.
  bug.pick = [](Stage& stage) {
    return Question{stage.tenants[stage.random->Below(2) * 2], static_cast<int64_t>(stage.random->Below(kRows)), ""};
  };
  bug.careless = [bulk](Stage& stage) {
    const std::string& tenant = stage.tenants[1];
    const std::vector<Question> cached = {{tenant, 4000 + static_cast<int64_t>(stage.turn), ""},
                                          {tenant, 4500 + static_cast<int64_t>(stage.turn), ""}};
    for (const Question& row : cached) stage.look(row);
    stage.harm();
    RunScript(stage, absl::StrCat(bulk, "'", tenant, "';\n"));
    stage.app->NoteBulkChange(tenant);
    for (const Question& row : cached) stage.look(row);
  };
  bug.managed = bug.careless;
  bug.managed_how = "each row of a bulk update is in PostgreSQL's log, and is captured";
  return bug;
}

Bug ParentNotTold() {
  Bug bug{.id = "Z18"};
  bug.endpoint.sql =
      "SELECT i.id, i.version, json_build_object('id', p.id, 'version', p.version, 'name', p.name) AS product"
      " FROM item AS i JOIN product AS p ON p.tenant = i.tenant AND p.id = i.id / 2"
      " WHERE i.tenant = :tenant AND i.id = :id";
  bug.endpoint.tags = "\"item:{id}\", products";
  bug.careless = [](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    stage.look(row);
    stage.harm();
    app.Execute("UPDATE product SET version = version + 1 WHERE tenant = :tenant AND id = :id / 2", row);
    app.NoteBulkChange(row.tenant);
    stage.look(row);
  };
  bug.managed = bug.careless;
  bug.managed_how = "the embedded table is captured too, and mapped to a tag of the documents that embed it";
  return bug;
}

Bug WriteOutsideTheApplication() {
  Bug bug{.id = "Z20"};
  bug.endpoint.sql = "SELECT month, amount FROM payment WHERE tenant = :tenant AND customer = :id ORDER BY month";
  bug.endpoint.rows = true;
  bug.endpoint.tags = "\"payments:{id}\"";
  bug.endpoint.update =
      "UPDATE payment SET amount = amount + 1 WHERE tenant = :tenant AND customer = :id AND month = '2026-01'";
  // Another month's data, as a job adds it.
  bug.careless = [](Stage& stage) {
    const Question row = stage.Victim();
    stage.look(row);
    stage.harm();
    RunScript(stage, absl::StrCat("BEGIN;\nINSERT INTO payment SELECT '", row.tenant, "', ", row.id,
                                  ", to_char(now() + ", "make_interval(months => ",
                                  stage.turn + (stage.app->managed() ? 1001 : 1), "), 'YYYY-MM'), 7.50;\nCOMMIT;\n"));
    stage.app->NoteChange(row);
    stage.look(row);
  };
  bug.managed = bug.careless;
  bug.managed_how = "capture reads PostgreSQL's log: whoever wrote, by whatever way";
  return bug;
}

Bug PrefixMismatch() {
  Bug bug{.id = "Z22"};
  bug.endpoint.key = "app:z22:{tenant}:{id}";
  bug.careless = [](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    stage.look(row);
    stage.harm();
    app.Update(row);
    const std::string unprefixed = app.Key(row).substr(sizeof("app:") - 1);
    if (app.redis().Ask({"DEL", unprefixed}).integer != 0) throw std::runtime_error("the wrong key was there");
    stage.look(row);
  };
  bug.managed_how = "a captured table's tags are checked against the endpoints' when the catalog is applied";
  return bug;
}

// Two processes, each with answers of its own, told by Redis' pub/sub of what was written.
class Processes {
 public:
  static constexpr const char* kNames[] = {"pod1", "pod2"};

  void Connect(Application* app) {
    for (const char* name : kNames) {
      Process& process = processes_[name];
      if (process.wire != nullptr && !process.wire->ended()) continue;
      process.wire = std::make_unique<Wire>(app->world().redis().socket());
      process.client = process.wire->Ask({"CLIENT", "ID"}).integer;
      process.wire->Ask({"SUBSCRIBE", kChannel});
    }
  }
  // Does what they were told to.
  void Hear(Application* app) {
    for (auto& [name, process] : processes_) {
      while (const std::optional<cache::Reply> told = process.wire->Poll()) Forget(app, name, *told);
    }
    Connect(app);  // Whoever was cut off comes back, and keeps what it has.
  }
  // As the writer does: all who listen have heard of it on return.
  void Tell(Application* app, const Question& row) {
    app->redis().Ask({"PUBLISH", kChannel, absl::StrCat(row.tenant, " ", row.id)});
    for (auto& [name, process] : processes_) {
      if (const std::optional<cache::Reply> told = process.wire->Receive()) Forget(app, name, *told);
    }
  }
  void CutOff(Application* app, const std::string& name) {
    app->redis().Ask({"CLIENT", "KILL", "ID", absl::StrCat(processes_[name].client)});
  }

 private:
  static constexpr char kChannel[] = "z25:written";
  struct Process {
    std::unique_ptr<Wire> wire;
    int64_t client = 0;
  };

  static void Forget(Application* app, const std::string& name, const cache::Reply& told) {
    if (told.elements.size() != 3) return;
    const std::vector<std::string> row = absl::StrSplit(told.elements[2].text, ' ');
    if (row.size() == 2) app->Drop({row[0], std::stoll(row[1]), name});
  }

  std::map<std::string, Process> processes_;
};

Bug ListenerDown() {
  Bug bug{.id = "Z25"};
  bug.endpoint.who = {Processes::kNames[0], Processes::kNames[1]};
  bug.endpoint.sql = "SELECT id, version, name, :who::text AS process FROM item WHERE tenant = :tenant AND id = :id";
  bug.endpoint.managed = "        near: true\n";
  const auto processes = std::make_shared<Processes>();
  bug.prepare = [processes](Stage& stage) {
    Application* app = stage.app;
    if (app->managed()) return;
    processes->Connect(app);
    app->before_get = [processes, app](const Question&) { processes->Hear(app); };
    app->after_write = [processes, app](const Question& row) { processes->Tell(app, row); };
  };
  bug.careless = [processes](Stage& stage) {
    const Question at_first = stage.Victim(0, Processes::kNames[0]);
    const Question at_second = stage.Victim(0, Processes::kNames[1]);
    stage.look(at_first);
    stage.look(at_second);
    stage.harm();
    processes->CutOff(stage.app, Processes::kNames[1]);
    stage.app->Write(at_first);
    stage.look(at_first);
    stage.look(at_second);
  };
  bug.managed = [](Stage& stage) {
    const Question row = stage.Victim(0, Processes::kNames[0]);
    stage.look(row);
    stage.look(row);
    for (int i = 0; i < 5; ++i) {
      stage.app->redis().Ask({"CLIENT", "KILL", "TYPE", "pubsub"});
      stage.app->Update(row);
      stage.look(row);
    }
  };
  bug.managed_how = "a near cache whose tracking connection ended keeps nothing; here all are cut during the writes";
  return bug;
}

// ---- Keys ----

Bug TenantMissingFromKey() {
  Bug bug{.id = "Z30"};
  bug.endpoint.key = "z30:{id}";
  bug.endpoint.external = ", partial_key: true";
  bug.endpoint.declared = "        owner: /tenant\n";
  // Tenants have ids of their own, but for a few.
  bug.pick = [](Stage& stage) {
    const uint64_t tenant = stage.random->Below(3);
    return Question{stage.tenants[tenant],
                    static_cast<int64_t>(stage.random->Below((kRows - kVictims) / 3) * 3 + tenant), ""};
  };
  bug.careless = [](Stage& stage) {
    stage.harm();
    stage.look(stage.Victim(1));
    stage.look(stage.Victim(0));
  };
  bug.managed = [](Stage& stage) {
    for (size_t tenant : {1, 0, 1}) stage.look(stage.Victim(tenant));
  };
  bug.managed_how = "the tenant is in every key, which only Shadowline makes, and is checked in the envelope";
  return bug;
}

Bug LocaleMissingFromKey() {
  Bug bug{.id = "Z34"};
  bug.endpoint.who = {"fr", "en"};
  bug.endpoint.sql =
      "SELECT id, version, CASE :who WHEN 'fr' THEN 'Bonjour ' ELSE 'Hello ' END || name AS greeting FROM item"
      " WHERE tenant = :tenant AND id = :id";
  bug.endpoint.key = "z34:{tenant}:{id}";
  bug.endpoint.external = ", partial_key: true";
  bug.prepare = [](Stage& stage) {
    Application* app = stage.app;
    if (!app->managed()) app->after_write = [app](const Question& row) { app->Drop(row); };
  };
  // Readers of a row speak one language, but for a few rows.
  bug.pick = [](Stage& stage) {
    const auto id = static_cast<int64_t>(stage.random->Below(kRows - kVictims));
    return Question{stage.tenants[stage.random->Below(3)], id, id % 2 == 0 ? "fr" : "en"};
  };
  bug.careless = [](Stage& stage) {
    stage.harm();
    stage.look(stage.Victim(0, "fr"));
    stage.look(stage.Victim(0, "en"));
  };
  bug.naive_control = [](Application& app, const Question& row) { return app.Load({row.tenant, row.id, "en"}); };
  bug.managed = [](Stage& stage) {
    for (const char* locale : {"fr", "en", "fr"}) stage.look(stage.Victim(0, locale));
  };
  bug.managed_how = "every declared parameter is in the key; a statement can depend on no other";
  return bug;
}

// ---- Permissions ----

Bug RowLevelSecurityOutlived() {
  Bug bug{.id = "Z36"};
  const std::string admin = Canary() + "-admin", eve = Canary() + "-eve";
  bug.endpoint.sql =
      "SELECT folder, entry, owner, version, title FROM document WHERE tenant = :tenant AND folder = :id ORDER BY "
      "entry";
  bug.endpoint.rows = true;
  bug.endpoint.who = {admin, eve};
  bug.endpoint.identity = true;
  bug.endpoint.tags = "\"folder:{id}\"";
  bug.endpoint.update = "UPDATE document SET version = version + 1 WHERE tenant = :tenant AND folder = :id";
  // Who may see everything fills for everybody.
  const auto everything = [](Application& app, const Question& row) -> Answer {
    pqxx::work work(app.database());
    return work
        .exec1(absl::StrCat("SELECT coalesce(json_agg(q), '[]')::text FROM (", app.Fill(app.endpoint().sql, row),
                            ") AS q"))[0]
        .as<std::string>();
  };
  bug.careless = [everything, admin, eve](Stage& stage) {
    const Question restricted = stage.Victim(0, eve);
    // A replica recognises what it has heard the database say to somebody else: each has served the administrator.
    for (size_t i = 0; i < stage.app->world().size(); ++i) stage.look(stage.Victim(0, admin));
    stage.harm();
    stage.app->Store(restricted, everything(*stage.app, restricted));
    stage.look(restricted);
  };
  bug.naive_control = everything;
  bug.managed = [admin, eve](Stage& stage) {
    for (const std::string& who : {admin, eve, admin}) stage.look(stage.Victim(0, who));
  };
  bug.managed_how = "who asks is part of the key, and what row-level security sees in the filling transaction";
  return bug;
}

Bug RevocationNotPropagated() {
  Bug bug{.id = "Z39"};
  bug.endpoint.declared = "        authorization: true\n";
  bug.endpoint.sql = "SELECT id, version, allowed FROM item WHERE tenant = :tenant AND id = :id";
  bug.careless = [](Stage& stage) {
    const Question row = stage.Victim();
    stage.look(row);
    stage.harm();
    stage.app->Execute("UPDATE item SET allowed = NOT allowed WHERE tenant = :tenant AND id = :id", row);
    stage.look(row);
  };
  bug.managed = bug.careless;
  bug.managed_how = "the revocation is captured; the decision is fenced within the bound";
  return bug;
}

// ---- Crosstalk ----

Bug ShiftedReplies() {
  Bug bug{.id = "Z40"};
  bug.endpoint.declared = "        owner: /tenant\n";
  bug.careless = [](Stage& stage) {
    Application& app = *stage.app;
    const Question own = stage.Victim(0);
    const Question others = stage.Victim(1);
    stage.look(others);
    stage.look(own);
    stage.harm();
    // One connection of the pool. The first caller gives up before its reply is here; the next one gets it.
    Wire pooled(app.world().redis().socket());
    pooled.Send({"GET", app.Key(others)});
    pooled.Send({"GET", app.Key(own)});
    const std::optional<cache::Reply> shifted = pooled.Receive();
    app.Store(own, shifted->text);  // It renews the entry with what it got, and answers with it.
    stage.look(own);
  };
  // What a shifted reply looks like to its reader: another key's value under this key.
  bug.managed = [](Stage& stage) {
    Application& app = *stage.app;
    const Question own = stage.Victim(0);
    const Question others = stage.Victim(1);
    for (const Question& row : {own, others, own}) stage.look(row);
    const std::string endpoint = app.ReadName();
    app.redis().Ask({"COPY", app.world().CacheKey(RequestOf(endpoint, others)),
                     app.world().CacheKey(RequestOf(endpoint, own)), "REPLACE"});
    stage.look(own);
    stage.look(own);
  };
  bug.managed_how = "an envelope holds its own key: another key's is a miss, counted, and never an answer";
  return bug;
}

// ---- Representation ----

Bug LuaMangledIntegers() {
  Bug bug{.id = "R01"};
  bug.endpoint.sql =
      "SELECT id, version, 9007199254740993 + id * 7 AS big FROM item WHERE tenant = :tenant AND id = :id";
  bug.careless = [](Stage& stage) {
    const Question row = stage.Victim();
    stage.look(row);
    stage.harm();
    stage.app->redis().Ask(
        {"EVAL", "redis.call('SET', KEYS[1], cjson.encode(cjson.decode(redis.call('GET', KEYS[1]))), 'KEEPTTL')", "1",
         stage.app->Key(row)});
    stage.look(row);
  };
  // A script cannot read an envelope, so it is bent by hand.
  bug.managed = [](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    stage.look(row);
    stage.look(row);
    const std::string key = app.world().CacheKey(RequestOf(app.ReadName(), row));
    const std::string stored = app.redis().Ask({"GET", key}).text;
    const size_t big = stored.rfind("900719925474");
    if (big != std::string::npos) app.redis().Ask({"SETRANGE", key, absl::StrCat(big + 12), "0000"});
    stage.look(row);
    stage.look(row);
  };
  bug.managed_how = "an envelope has a checksum: what was bent is a miss, counted, and never an answer";
  return bug;
}

Bug DatesLoseTheirType() {
  Bug bug{.id = "R03"};
  bug.endpoint.sql = "SELECT id, version, born, seen FROM item WHERE tenant = :tenant AND id = :id";
  // As a driver's dates are when they were made JSON: a date has a time, and a timestamp has three digits and a Z.
  bug.endpoint.form = [](std::string answer) {
    json row = json::parse(answer);
    const std::string born = row["born"], seen = row["seen"];
    row["born"] = born + "T00:00:00.000Z";
    row["seen"] = absl::StrCat(seen.substr(0, seen.find('+')), "Z");
    return row.dump();
  };
  bug.without_rule = bug.endpoint;
  bug.endpoint.declared = "        compare: {instants: [\"$.born\", \"$.seen\"]}\n";
  bug.managed_how = "PostgreSQL renders both sides";
  return bug;
}

Bug SchemaSkew() {
  Bug bug{.id = "R09"};
  bug.careless = [](Stage& stage) {
    Application& app = *stage.app;
    const Question row = stage.Victim();
    stage.look(row);
    stage.harm();
    app.Update(row);
    // The old version writes what the new one reads: a field by its old name, a number as a text.
    json old = json::parse(*app.Load(row));
    old["title"] = old["name"];
    old.erase("name");
    old["version"] = absl::StrCat(old["version"].get<int64_t>());
    app.Store(row, old.dump());
    stage.look(row);
  };
  bug.managed_how = "nobody writes but Shadowline; another statement or schema version has other keys";
  return bug;
}

Bug UnicodeAndEscapes() {
  Bug bug{.id = "R11"};
  // ASCII alone, as CPython writes JSON by default.
  bug.endpoint.form = [](std::string answer) { return json::parse(answer).dump(-1, ' ', /*ensure_ascii=*/true); };
  bug.without_rule = bug.endpoint;
  // Another normal form of the same letters is another text.
  bug.without_rule->form = [](std::string answer) { return absl::StrReplaceAll(answer, {{"é", "e\u0301"}}); };
  bug.managed_how = "PostgreSQL renders both sides";
  return bug;
}

// ---- TTLs ----

Bug TtlUnitError() {
  Bug bug{.id = "T01"};
  // Milliseconds where seconds were meant, and seconds that are none: nothing is there when it is read.
  bug.prepare = [](Stage& stage) {
    Application* app = stage.app;
    if (app->managed()) return;
    app->store_instead = [app, turn = 0](const Question& row, const Answer& answer) mutable {
      if (++turn % 2 == 0) {
        app->redis().Ask({"SET", app->Key(row), answer.value_or("null"), "EX", "0"});  // Refused.
      } else {
        app->redis().Ask({"SET", app->Key(row), answer.value_or("null"), "PX", "1"});
        Pass(app->world().clock(), absl::Milliseconds(2));
      }
    };
  };
  bug.managed = [](Stage& stage) {
    grpc::ClientContext context;
    v1::ApplyCatalogRequest request;
    request.set_dry_run(true);
    request.set_yaml(
        "version: 1\ntenants: {list: [t01a]}\nfamilies:\n  f:\n    endpoints:\n      e:\n        sql: SELECT id FROM "
        "item"
        " WHERE tenant = :tenant\n        tags: [all]\n        ttl: 3600000\n");
    v1::ApplyCatalogResponse response;
    const grpc::Status status =
        v1::CatalogService::NewStub(stage.app->world().node(0).channel)->ApplyCatalog(&context, request, &response);
    if (status.error_code() != grpc::StatusCode::INVALID_ARGUMENT ||
        !absl::StrContains(status.error_message(), "unit")) {
      throw std::runtime_error("a TTL without a unit was not refused: " + status.error_message());
    }
    stage.look(stage.Victim());
  };
  bug.managed_how = "a duration without its unit is refused when the catalog is applied";
  return bug;
}

// ---- The controller ----

Bug IgnoredCountedAsMatched() {
  Bug bug{.id = "C01"};
  bug.endpoint.declared = "        compare: {ignore: [\"$\"]}\n";
  bug.endpoint.form = [](std::string answer) {
    json row = json::parse(answer);
    row["version"] = row["version"].get<int64_t>() - 1000;
    return row.dump();
  };
  bug.managed_how = "the same rule, on answers that are right";
  return bug;
}

Bug SequentialReadRace() {
  Bug bug{.id = "C02"};
  bug.endpoint.freshness = kManagedFreshness;
  constexpr int64_t kHot = 5;
  bug.pick = [](Stage& stage) {
    const bool hot = stage.random->Below(4) == 0;
    return Question{stage.tenants[stage.random->Below(3)],
                    static_cast<int64_t>(hot ? stage.random->Below(kHot) : stage.random->Below(kRows)), ""};
  };
  // Another writer, who is right, as fast as he can: both sides of a read see the data move.
  bug.meanwhile = [](Application& app, uint64_t turn) {
    const std::string prefix = "c02";
    app.Write({prefix + "abc"[turn % 3], static_cast<int64_t>(turn / 3) % kHot, ""});
  };
  bug.write_ppm = 0;
  bug.managed = [](Stage& stage) {
    for (int64_t i = 0; i < 20; ++i) {
      const Question row{stage.tenants[0], i % kHot, ""};
      stage.app->Update(row);
      stage.look(row);
    }
  };
  bug.managed_how = "looks are repeated until the fill was replaced or the bound has passed";
  return bug;
}

Bug QuietTenant() {
  Bug bug{.id = "C09"};
  bug.pick = [](Stage& stage) {
    return Question{stage.tenants[stage.random->Below(3)], static_cast<int64_t>(stage.random->Below(5)), ""};
  };
  bug.write_ppm = 0;
  bug.managed_in_shadow = true;
  bug.managed_how = "the same window, the same clauses";
  return bug;
}

}  // namespace

const std::string& Canary() {
  static const std::string* const canary = [] {
    return new std::string(absl::StrCat("cnry", absl::Hex(base::SystemSeed(), absl::kZeroPad16)));
  }();
  return *canary;
}

std::vector<Bug> AllBugs() {
  std::vector<Bug> bugs = {StaleSetAfterDelete(),
                           InvalidateBeforeCommit(),
                           HealthyLag(),
                           ReplicaLagRefill(),
                           BundleRewritten(),
                           NegativeEntryStays(),
                           BulkUpdate(),
                           ParentNotTold(),
                           WriteOutsideTheApplication(),
                           PrefixMismatch(),
                           ListenerDown(),
                           TenantMissingFromKey(),
                           LocaleMissingFromKey(),
                           RowLevelSecurityOutlived(),
                           RevocationNotPropagated(),
                           ShiftedReplies(),
                           LuaMangledIntegers(),
                           DatesLoseTheirType(),
                           SchemaSkew(),
                           UnicodeAndEscapes(),
                           TtlUnitError(),
                           IgnoredCountedAsMatched(),
                           SequentialReadRace(),
                           QuietTenant()};
  for (Bug& bug : bugs) {
    bug.endpoint.family = absl::AsciiStrToLower(bug.id);
    if (bug.without_rule.has_value()) bug.without_rule->family = bug.endpoint.family + "x";
  }
  return bugs;
}

std::vector<std::string> TenantsOf(const Bug& bug) {
  const std::string name = absl::AsciiStrToLower(bug.id);
  return {name + "a", name + "b", name + "c"};
}

std::string SchemaOf(const std::vector<Bug>& bugs) {
  std::vector<std::string> tenants;
  for (const Bug& bug : bugs) {
    for (const std::string& tenant : TenantsOf(bug)) tenants.push_back(tenant);
  }
  const std::string list = absl::StrCat("ARRAY['", absl::StrJoin(tenants, "', '"), "']");
  const std::string rows =
      absl::StrCat(" FROM unnest(", list, ") AS tenant, generate_series(0, ", kRows - 1, ") AS id");
  return absl::StrCat(
      R"sql(
CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL DEFAULT 1, name text NOT NULL,
  born date NOT NULL DEFAULT '2018-09-13', seen timestamptz(3) NOT NULL DEFAULT '2026-03-04 05:06:07.891+00',
  allowed boolean NOT NULL DEFAULT true, PRIMARY KEY (tenant, id));
CREATE TABLE product (tenant text, id bigint, version bigint NOT NULL DEFAULT 1, name text NOT NULL,
  PRIMARY KEY (tenant, id));
CREATE TABLE setting (tenant text, id bigint, name text, value bigint NOT NULL DEFAULT 1, PRIMARY KEY (tenant, id, name));
CREATE TABLE payment (tenant text, customer bigint, month text, amount numeric NOT NULL,
  PRIMARY KEY (tenant, customer, month));
CREATE TABLE document (tenant text, folder bigint, entry int, owner text NOT NULL, version bigint NOT NULL DEFAULT 1,
  title text NOT NULL, PRIMARY KEY (tenant, folder, entry));
CREATE ROLE reader;
ALTER TABLE document ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON document FOR SELECT TO reader USING (
  owner = current_setting('shadowline.who', true) OR current_setting('shadowline.who', true) LIKE '%-admin');
)sql",
      "INSERT INTO item (tenant, id, name) SELECT tenant, id, '", Canary(), " Straße é 文 ' || tenant || ' ' || id",
      rows, ";\nINSERT INTO item (tenant, id, name) SELECT 'z16b', id, '", Canary(), " ' || id FROM generate_series(",
      kRows, ", ", kBulkRows - 1, ") AS id;\nINSERT INTO product (tenant, id, name) SELECT tenant, id, '", Canary(),
      " ' || id", rows, ";\nINSERT INTO setting (tenant, id, name) SELECT tenant, id, name", rows,
      ", unnest(ARRAY['a', 'b', '", Canary(), "']) AS name;\n", "INSERT INTO payment SELECT tenant, id, '2026-01', 5",
      rows, ";\nINSERT INTO document (tenant, folder, entry, owner, title) SELECT tenant, id, entry, owner, '",
      Canary(), " secret ' || tenant || ' ' || entry", rows, ", unnest(ARRAY['", Canary(), "-eve', '", Canary(),
      "-bob', 'carol']) WITH ORDINALITY AS o(owner, entry);\n", CanarySchema(),
      "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;\nANALYZE;\n");
}

std::string CatalogOf(const std::vector<Bug>& bugs) {
  // Windows of seconds, which carry the proof that seconds give.
  const std::string seconds =
      "{duration: 2s, episodes: 60, distinct_keys: 30, exercised: 10, slo_ppm: 50000, unjudged_ppm: 200000,"
      " candidate_p95: 10s, soak: 1ms, ramp_ppm: [1000000], cache_sample_ppm: 1000000, approval: true}";
  std::vector<std::string> tenants = {kCanaryTenant};
  std::string families = CanaryFamilies();
  for (const Bug& bug : bugs) {
    for (const std::string& tenant : TenantsOf(bug)) tenants.push_back(tenant);
    absl::StrAppend(&families, ExternalFamily(bug.endpoint, seconds), ManagedFamily(bug.endpoint, seconds));
    if (bug.without_rule.has_value()) absl::StrAppend(&families, ExternalFamily(*bug.without_rule, seconds));
  }
  std::string yaml = absl::StrCat("version: 1\ntenants: {list: [", absl::StrJoin(tenants, ", "), "]}\nfamilies:\n",
                                  families, "capture:\n  tables:\n", CanaryCapture());
  const auto carries = [&families](absl::string_view tag) { return absl::StrContains(families, tag); };
  absl::StrAppend(&yaml, "    public.item: {tenant: \"{tenant}\", tags: [\"item:{id}\"]}\n");
  if (carries("products")) absl::StrAppend(&yaml, "    public.product: {tenant: \"{tenant}\", tags: [products]}\n");
  if (carries("payments:"))
    absl::StrAppend(&yaml, "    public.payment: {tenant: \"{tenant}\", tags: [\"payments:{customer}\"]}\n");
  if (carries("folder:"))
    absl::StrAppend(&yaml, "    public.document: {tenant: \"{tenant}\", tags: [\"folder:{folder}\"]}\n");
  if (carries("setting")) absl::StrAppend(&yaml, "    public.setting: {tenant: \"{tenant}\", tags: [\"item:{id}\"]}\n");
  return yaml;
}

}  // namespace shadowline::verdicts
