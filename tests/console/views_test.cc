// What people see: tables, the rollout tree, divergences and reports, as golden texts; and how arguments are read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "console/cli/arguments.h"
#include "console/cli/cache_view.h"
#include "console/cli/divergence_view.h"
#include "console/cli/report_view.h"
#include "console/cli/rollout_view.h"
#include "console/cli/table.h"

namespace shadowline::console {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kNow = 1'790'000'000'000'000;  // 2026-09-21T14:13:20Z
constexpr int64_t kSecond = 1'000'000;

Style Terminal() {
  Style style;
  style.relative = true;
  style.now = absl::FromUnixMicros(kNow);
  return style;
}

std::string Text(const std::vector<std::string>& lines) { return absl::StrCat("\n", absl::StrJoin(lines, "\n"), "\n"); }

TEST(NumbersTest, HaveThousandsSeparators) {
  EXPECT_EQ(Count(0), "0");
  EXPECT_EQ(Count(999), "999");
  EXPECT_EQ(Count(1000), "1,000");
  EXPECT_EQ(Count(1234567), "1,234,567");
  EXPECT_EQ(Count(UINT64_MAX), "18,446,744,073,709,551,615");
}

TEST(NumbersTest, PartsPerMillionAreShownAsPercents) {
  EXPECT_EQ(Percent(0), "0 %");
  EXPECT_EQ(Percent(1), "0.0001 %");
  EXPECT_EQ(Percent(500), "0.05 %");
  EXPECT_EQ(Percent(50'000), "5 %");
  EXPECT_EQ(Percent(1'000'000), "100 %");
}

TEST(NumbersTest, AShareNeverRoundsToAllOrNothing) {
  EXPECT_EQ(Share(0, 0), "-");
  EXPECT_EQ(Share(0, 10), "0 %");
  EXPECT_EQ(Share(1, 1'000'000), "<0.01 %");
  EXPECT_EQ(Share(999'999, 1'000'000), ">99.99 %");
  EXPECT_EQ(Share(1, 3), "33.33 %");
  EXPECT_EQ(Share(10, 10), "100 %");
}

TEST(NumbersTest, DurationsHaveTheirTwoLargestUnits) {
  EXPECT_EQ(Human(absl::Microseconds(12)), "12 us");
  EXPECT_EQ(Human(absl::Microseconds(1500)), "1.5 ms");
  EXPECT_EQ(Human(absl::Milliseconds(340)), "340 ms");
  EXPECT_EQ(Human(absl::Microseconds(999'900)), "1 s");
  EXPECT_EQ(Human(absl::Milliseconds(3240)), "3.2 s");
  EXPECT_EQ(Human(absl::Seconds(59)), "59 s");
  EXPECT_EQ(Human(absl::Milliseconds(59'700)), "1 min");
  EXPECT_EQ(Human(absl::Seconds(130)), "2 min 10 s");
  EXPECT_EQ(Human(absl::Minutes(125)), "2 h 5 min");
  EXPECT_EQ(Human(absl::Hours(76)), "3 d 4 h");
  EXPECT_EQ(HumanEta(-1), "-");
}

TEST(NumbersTest, TimesAreRelativeOnATerminalAndRfc3339Elsewhere) {
  Style style = Terminal();
  EXPECT_EQ(When(0, style), "-");
  EXPECT_EQ(When(kNow - kSecond / 2, style), "now");
  EXPECT_EQ(When(kNow + kSecond, style), "now");
  EXPECT_EQ(When(kNow - 3 * kSecond, style), "3 s ago");
  EXPECT_EQ(When(kNow - 150 * kSecond, style), "2 min ago");
  EXPECT_EQ(When(kNow - 3 * 86'400 * kSecond, style), "3 d ago");
  style.relative = false;
  EXPECT_EQ(When(kNow - kSecond / 2, style), "2026-09-21T14:13:19.500Z");
}

TEST(TableTest, AlignsNumbersRightAndLeavesNoBlanksAtTheEnd) {
  Table table({{"TENANT"}, {"READS", Align::kRight}, {"WHY"}});
  table.AddRow({"acme", Count(1234567), "x"});
  table.AddRow({"größe", "7", ""});
  EXPECT_EQ(Text(table.Lines({})), R"(
TENANT      READS  WHY
acme    1,234,567  x
größe           7
)");
}

TEST(TableTest, ColoursTakeNoColumns) {
  Table table({{"A"}, {"B"}});
  table.AddRow({Cell("bad", Color::kRed), "x"});
  table.AddRow({"longer", "y"});
  Style style;
  style.color = true;
  EXPECT_EQ(Text(table.Lines(style)), "\n\x1b[2mA\x1b[0m       \x1b[2mB\x1b[0m\n\x1b[31mbad\x1b[0m     x\nlonger  y\n");
}

TEST(TableTest, LongLinesAreCutToTheTerminal) {
  Style style;
  style.width = 8;
  EXPECT_EQ(Cut("12345678", style), "12345678");
  EXPECT_EQ(Cut("123456789", style), "1234567…");
  EXPECT_EQ(Cut("\x1b[31m123456789\x1b[0m", style), "\x1b[31m1234567…\x1b[0m");
  EXPECT_EQ(Cut("日本語日本", style), "日本語…");
  style.unicode = false;
  EXPECT_EQ(Cut("123456789", style), "1234567~");
}

TEST(TableTest, NothingFromTheWireSteersTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[2Jb\r\n"), "a\\x1b[2Jb\\x0d\\x0a");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "\\x9b31m");
  EXPECT_EQ(Printable("caf\xc3\xa9 \xff\xc3"), "café ??");
  Table table({{"A"}});
  table.AddRow({"\x1b]0;title\x07"});
  EXPECT_EQ(Text(table.Lines({})), "\nA\n\\x1b]0;title\\x07\n");
}

v1::Rollout MovingRollout() {
  v1::Rollout rollout;
  rollout.set_id("41");
  rollout.set_family("pricing");
  rollout.set_state(v1::ROLLOUT_STATE_RUNNING);
  rollout.set_cohort(1);
  rollout.set_who("ana");
  rollout.set_reason("faster quotes");
  rollout.set_started_at_us(kNow - 190 * kSecond);
  rollout.set_eta_us(130 * kSecond);
  for (const char* name : {"canary", "wave", "rest"}) rollout.add_cohorts()->set_name(name);
  const auto add = [&](const char* cohort, const std::string& tenant, v1::TargetState state, v1::Mode mode,
                       uint32_t ppm) {
    v1::RolloutTarget* target = rollout.add_targets();
    target->set_cohort(cohort);
    target->set_tenant(tenant);
    target->set_state(state);
    target->set_mode(mode);
    target->set_serve_ppm(ppm);
    target->set_eta_us(-1);
    return target;
  };
  add("canary", "hooli", v1::TARGET_STATE_SETTLED, v1::MODE_CACHE, 1'000'000);
  add("canary", "initech", v1::TARGET_STATE_SETTLED, v1::MODE_CACHE, 1'000'000);
  v1::RolloutTarget* acme = add("wave", "acme", v1::TARGET_STATE_RAMPING, v1::MODE_CACHE, 50'000);
  acme->set_window(1012);
  acme->set_eta_us(40 * kSecond);
  v1::Clause* soak = acme->add_clauses();
  soak->set_name("duration");
  soak->set_detail("12 s of 1 min");
  v1::RolloutTarget* globex = add("wave", "globex", v1::TARGET_STATE_SHADOW, v1::MODE_SHADOW, 0);
  globex->set_window(11);
  globex->set_eta_us(130 * kSecond);
  v1::Clause* met = globex->add_clauses();
  met->set_name("duration");
  met->set_met(true);
  met->set_detail("lasted");
  globex->add_clauses()->set_detail("1,204 of 2,000 episodes (pricing/quote)");
  globex->add_clauses()->set_name("exercised");
  for (int i = 0; i < 35; ++i) {
    add("rest", absl::StrCat("t", i), v1::TARGET_STATE_WAITING, v1::MODE_DATABASE, 0);
  }
  return rollout;
}

TEST(RolloutTreeTest, OpensTheCohortThatMoves) {
  EXPECT_EQ(Text(RolloutTree(MovingRollout(), Terminal())), R"(
pricing: running, cohort 2 of 3, about 2 min 10 s to go
rollout 41, started 3 min ago by ana: faster quotes

TARGET        STATE    CACHE  WINDOW  ETA         MISSING
├─ canary     settled  100 %                      2 targets
├─ wave       moving                              1 ramping, 1 shadow
│  ├─ acme    ramping    5 %   1,012  40 s        12 s of 1 min
│  └─ globex  shadow       -      11  2 min 10 s  1,204 of 2,000 episodes (pricing/quote); exercised
└─ rest       waiting                             35 targets
)");
}

TEST(RolloutTreeTest, AStopSaysWhyAndWhatToDoNext) {
  v1::Rollout rollout = MovingRollout();
  rollout.set_state(v1::ROLLOUT_STATE_STOPPED);
  rollout.set_eta_us(-1);
  rollout.mutable_targets(3)->set_state(v1::TARGET_STATE_BLOCKED);
  rollout.mutable_targets(3)->set_reason("1 confirmed divergence: /roles/*: value");
  EXPECT_EQ(Text(RolloutTree(rollout, Terminal())), R"(
pricing: stopped, cohort 2 of 3
rollout 41, started 3 min ago by ana: faster quotes

TARGET        STATE    CACHE  WINDOW  ETA   MISSING
├─ canary     settled  100 %                2 targets
├─ wave       stopped                       1 blocked, 1 ramping
│  ├─ acme    ramping    5 %   1,012  40 s  12 s of 1 min
│  └─ globex  blocked      -      11  -     1 confirmed divergence: /roles/*: value
└─ rest       waiting                       35 targets

next  what differs:        shadowline divergences list --family pricing
      once it is mended:   shadowline rollout resume pricing
)");
}

TEST(RolloutTreeTest, FitsTheScreenAndKeepsTheMostInteresting) {
  v1::Rollout rollout = MovingRollout();
  for (int i = 4; i < rollout.targets_size(); ++i) {
    rollout.mutable_targets(i)->set_state(i == 30 ? v1::TARGET_STATE_BLOCKED : v1::TARGET_STATE_SHADOW);
  }
  const std::vector<std::string> lines = RolloutTree(rollout, Terminal(), 14);
  EXPECT_EQ(lines.size(), 14u) << Text(lines);
  EXPECT_THAT(Text(lines), HasSubstr("├─ t26        blocked"));
  EXPECT_THAT(lines.back(), HasSubstr("└─ … 31 more"));
  EXPECT_THAT(lines.back(), HasSubstr("31 shadow"));
  // A screen that is too small shows the head of everything rather than nothing.
  EXPECT_GT(RolloutTree(rollout, Terminal(), 5).size(), 5u);
}

TEST(RolloutTreeTest, AnApprovalIsAskedFor) {
  v1::Rollout rollout = MovingRollout();
  rollout.mutable_targets(3)->set_state(v1::TARGET_STATE_AWAITING_APPROVAL);
  EXPECT_THAT(Text(RolloutTree(rollout, Terminal())), HasSubstr("shadowline rollout approve pricing"));
}

TEST(RolloutTreeTest, AsciiWhereTheTerminalHasNoUtf8) {
  Style style = Terminal();
  style.unicode = false;
  const std::string text = Text(RolloutTree(MovingRollout(), style));
  EXPECT_THAT(text, HasSubstr("|  `- globex"));
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }))
      << text;
}

TEST(PolicyTextTest, SaysWhatIsKnown) {
  v1::Policy policy;
  EXPECT_EQ(PolicyText(policy), "the catalog's");
  policy.set_duration("10s");
  policy.set_episodes(2000);
  policy.set_distinct_keys(50);
  policy.set_slo_ppm(1000);
  policy.set_confidence_ppm(950'000);
  policy.add_ramp_ppm(50'000);
  policy.add_ramp_ppm(1'000'000);
  policy.set_soak("2s");
  EXPECT_EQ(
      PolicyText(policy),
      "a window of 10s; 2,000 episodes and 50 keys for each endpoint; fewer than 0.1 % diverge, at 95 % confidence; "
      "ramp 5 %, 100 % with 2s of soak");
}

TEST(RolloutTableTest, HasOneLineForEach) {
  v1::ListRolloutsResponse rollouts;
  EXPECT_EQ(RolloutTable(rollouts, Terminal()), "No rollouts.\n");
  *rollouts.add_rollouts() = MovingRollout();
  EXPECT_EQ(absl::StrCat("\n", RolloutTable(rollouts, Terminal())), R"(
FAMILY   ROLLOUT  STATE    COHORT  SETTLED  TARGETS  ETA         STARTED    BY
pricing  41       running  wave          2       39  2 min 10 s  3 min ago  ana
)");
}

TEST(RolloutChangesTest, ListsEachChangeOnce) {
  v1::Rollout before = MovingRollout();
  EXPECT_THAT(RolloutChanges(&before, before, Terminal()), ElementsAre());
  v1::Rollout now = before;
  now.mutable_targets(2)->set_serve_ppm(250'000);
  now.mutable_targets(3)->set_state(v1::TARGET_STATE_BLOCKED);
  now.mutable_targets(3)->set_reason("wrong answers");
  now.set_state(v1::ROLLOUT_STATE_STOPPED);
  EXPECT_EQ(Text(RolloutChanges(&before, now, Terminal())), R"(
2026-09-21T14:13:20.000Z  pricing/acme: ramping 5 % -> ramping 25 %
2026-09-21T14:13:20.000Z  pricing/globex: shadow -> blocked (wrong answers)
2026-09-21T14:13:20.000Z  pricing: running -> stopped
)");
}

TEST(RolloutChangesTest, TheFirstSightListsWhatHasBegun) {
  const std::vector<std::string> lines = RolloutChanges(nullptr, MovingRollout(), Terminal());
  EXPECT_EQ(lines.size(), 5u);
  EXPECT_THAT(lines.front(), HasSubstr("pricing/hooli: settled 100 %"));
  EXPECT_THAT(lines.back(), HasSubstr("pricing: running"));
}

TEST(WatchResultTest, IsAnExitCode) {
  EXPECT_EQ(WatchResult(v1::ROLLOUT_STATE_RUNNING), std::nullopt);
  EXPECT_EQ(WatchResult(v1::ROLLOUT_STATE_PAUSED), std::nullopt);
  EXPECT_EQ(WatchResult(v1::ROLLOUT_STATE_SETTLED), 0);
  EXPECT_EQ(WatchResult(v1::ROLLOUT_STATE_ROLLED_BACK), 1);
  EXPECT_EQ(WatchResult(v1::ROLLOUT_STATE_ABORTED), 1);
  EXPECT_EQ(WatchResult(v1::ROLLOUT_STATE_STOPPED), 3);
}

v1::Divergence MissedInvalidation() {
  v1::Divergence divergence;
  divergence.set_id("17");
  divergence.set_tenant("acme");
  divergence.set_family("permissions");
  divergence.set_endpoint("permissions/effective");
  divergence.set_fingerprint("00f1e2d3c4b5a697");
  divergence.set_key("sl:acme:permissions/effective:v1.1:0123");
  divergence.set_fill("0af3");
  v1::Difference* difference = divergence.add_differences();
  difference->set_pointer("/roles/2");
  difference->set_kind("missing");
  difference->set_control("\"admin\"");
  divergence.set_differences_total(3);
  divergence.set_cause("missed_invalidation");
  divergence.set_cause_evidence("the database changed and no tag of the key was invalidated");
  divergence.set_advice("let its writer call Invalidate");
  divergence.set_reads_affected(1204);
  divergence.set_confirmed_at_us(kNow - 60 * kSecond);
  v1::Proof* proof = divergence.mutable_proof();
  proof->set_rule("by_observation");
  proof->set_freshness_us(2 * kSecond);
  const int64_t fill = kNow - 70 * kSecond;
  proof->set_filled_at_us(fill);
  proof->set_served_at_us(fill + 6 * kSecond);
  for (const int64_t at : {fill + 6 * kSecond + 1000, fill + 8 * kSecond + 2000}) {
    v1::Observation* observation = proof->add_observations();
    observation->set_candidate_at_us(at);
    observation->set_same_fill(true);
    observation->set_control_at_us(at + 3000);
    observation->set_differed(true);
    observation->set_snapshot("750:750:");
  }
  v1::TagHistory* tag = proof->add_tags();
  tag->set_tag("account:42");
  tag->set_last_invalidated_at_us(fill - 30 * kSecond);
  proof->add_tags()->set_tag("project:7");
  return divergence;
}

TEST(DivergenceStoryTest, TellsWhatDiffersSinceWhenAndThatNoInvalidationCameBetween) {
  EXPECT_EQ(absl::StrCat("\n", DivergenceStory(MissedInvalidation(), Terminal())), R"(
divergence 17  permissions/effective  tenant acme  confirmed 1 min ago

differs     3 differences, group 00f1e2d3c4b5a697
  WHERE     KIND     DATABASE  CACHE
  /roles/2  missing  "admin"   -
  and 2 more

key         sl:acme:permissions/effective:v1.1:0123
fill        0af3, loaded 1 min ago
wrong since 1 min ago at the latest
served by   the database: no caller got the wrong answer
reads       1,204 reads would have been answered with it

tags        and when each was last invalidated
  TAG         LAST INVALIDATED  THAT IS
  account:42  1 min ago         30 s before the fill
  project:7   never             -
  No tag was invalidated between the fill and the divergence.

timeline    seconds since the fill; the freshness bound is 2 s
        AT  WHAT WAS SEEN                            SNAPSHOT
  +0.000 s  loaded from the database into the cache
  +6.000 s  the sampled read was answered
  +6.001 s  the cache serves this fill
  +6.004 s  the database holds another value         750:750:
  +8.002 s  the cache serves this fill
  +8.005 s  the database holds another value         750:750:

cause       missed invalidation: the database changed and no tag of the key was invalidated
next        let its writer call Invalidate
            the same elsewhere: shadowline divergences list --each --group 00f1e2d3c4b5a697
            once it is mended: shadowline rollout resume permissions
)");
}

TEST(DivergenceStoryTest, SaysWhereAnInvalidationDidComeBetween) {
  v1::Divergence divergence = MissedInvalidation();
  v1::TagHistory* tag = divergence.mutable_proof()->mutable_tags(0);
  tag->set_last_invalidated_at_us(divergence.proof().filled_at_us() + kSecond);
  divergence.set_cause("fill_race");
  divergence.set_after_cutover(true);
  const std::string text = DivergenceStory(divergence, Terminal());
  EXPECT_THAT(text, HasSubstr("A tag was invalidated after the fill"));
  EXPECT_THAT(text, Not(HasSubstr("No tag was invalidated")));
  EXPECT_THAT(text, HasSubstr("+1.000 s  tag account:42 invalidated"));
  EXPECT_THAT(text, HasSubstr("callers got the wrong answer"));
}

TEST(DivergenceStoryTest, OfAnApplicationsCacheBeginsWithTheRead) {
  v1::Divergence divergence = MissedInvalidation();
  divergence.set_cause("stale_entry");
  divergence.set_replayable(true);
  divergence.mutable_proof()->set_filled_at_us(0);
  const std::string text = DivergenceStory(divergence, Terminal());
  EXPECT_THAT(text, HasSubstr("fill        0af3, by the application\n"));
  EXPECT_THAT(text, HasSubstr("account:42  1 min ago         36 s before the read\n"));
  EXPECT_THAT(text, HasSubstr("timeline    seconds since the read; the freshness bound is 2 s"));
  EXPECT_THAT(text, HasSubstr("+0.000 s  the sampled read was answered"));
  EXPECT_THAT(text, HasSubstr("what both sides say now, or what was kept: shadowline divergences replay 17"));
  EXPECT_THAT(text, Not(HasSubstr("after the fill")));
  EXPECT_THAT(text, Not(HasSubstr("loaded from the database")));
  EXPECT_THAT(text, Not(HasSubstr("No tag was invalidated")));
}

TEST(DivergenceStoryTest, SaysWhatIsUnsafe) {
  v1::Divergence divergence = MissedInvalidation();
  EXPECT_THAT(DivergenceStory(divergence, Terminal()), Not(HasSubstr("unsafe")));
  divergence.set_unsafe("another_tenant");
  EXPECT_THAT(DivergenceStory(divergence, Terminal()),
              HasSubstr("unsafe      another tenant's data: the family is off the cache, for every tenant"));
}

TEST(GroupStoryTest, TellsWhatDiffersSinceWhenWhichKeysHowManyReadsWhyAndWhatToDo) {
  v1::ListDivergenceGroupsResponse groups;
  v1::DivergenceGroup* group = groups.add_groups();
  group->set_endpoint("permissions/effective");
  group->set_fingerprint("00f1e2d3c4b5a697");
  group->add_patterns("/roles/*: missing");
  group->add_patterns("/name: value");
  group->set_first_at_us(kNow - 600 * kSecond);
  group->set_last_at_us(kNow - 60 * kSecond);
  group->set_divergences(41);
  group->set_tenants(2);
  group->set_keys(40);
  group->set_reads_affected(1204);
  group->add_example_keys("sl:acme:one");
  group->add_example_keys("sl:acme:two");
  group->set_cause("missed_invalidation");
  group->set_cause_evidence("no tag was invalidated");
  group->set_advice("let its writer call Invalidate");
  group->set_example_id("17");
  EXPECT_EQ(absl::StrCat("\n", GroupStory(groups, Terminal())), R"(
group 00f1e2d3c4b5a697  permissions/effective

differs     /roles/*: missing
            /name: value
since       10 min ago, last 1 min ago
found       41 divergences of 2 tenants, 40 keys, 1,204 reads
keys        sl:acme:one
            sl:acme:two
            and 38 more
cause       missed invalidation: no tag was invalidated
next        let its writer call Invalidate
            the newest in full: shadowline divergences show 17
)");
}

TEST(DivergenceListsTest, HaveGroupsOrSingleOnes) {
  v1::ListDivergenceGroupsResponse groups;
  EXPECT_EQ(GroupTable(groups.groups(), Terminal()), "No divergences.\n");
  v1::DivergenceGroup* group = groups.add_groups();
  group->set_fingerprint("00f1e2d3c4b5a697");
  group->set_family("permissions");
  group->set_endpoint("permissions/effective");
  group->add_patterns("/roles/*: missing");
  group->set_cause("missed_invalidation");
  group->set_divergences(12);
  group->set_tenants(2);
  group->set_keys(11);
  group->set_reads_affected(12345);
  group->set_first_at_us(kNow - 300 * kSecond);
  group->set_last_at_us(kNow - 5 * kSecond);
  group->set_example_id("17");
  EXPECT_EQ(absl::StrCat("\n", GroupTable(groups.groups(), Terminal())), R"(
GROUP             ENDPOINT               CAUSE                FOUND  TENANTS  KEYS   READS  FIRST      LAST     NEWEST  DIFFERS AT
00f1e2d3c4b5a697  permissions/effective  missed invalidation     12        2    11  12,345  5 min ago  5 s ago  17      /roles/*: missing
)");
  v1::ListDivergencesResponse single;
  *single.add_divergences() = MissedInvalidation();
  EXPECT_EQ(absl::StrCat("\n", DivergenceTable(single, Terminal())), R"(
ID  TENANT  ENDPOINT               CAUSE                DIFFERS  READS  SERVED BY  CONFIRMED  GROUP
17  acme    permissions/effective  missed invalidation        3  1,204  database   1 min ago  00f1e2d3c4b5a697
)");
}

TEST(ReportTest, HasALedgerThatBalances) {
  v1::Report report;
  report.set_family("permissions");
  report.set_catalog_revision(7);
  report.set_at_us(kNow);
  v1::Ledger* ledger = report.mutable_ledger();
  ledger->set_sampled(10'000);
  ledger->set_matched(9'980);
  ledger->set_healed(12);
  ledger->set_confirmed(5);
  ledger->set_pending(3);
  v1::TargetReport* target = report.add_targets();
  target->set_tenant("acme");
  target->set_mode(v1::MODE_CACHE);
  target->set_serve_ppm(50'000);
  target->set_window(12);
  target->set_window_since_us(kNow - 20 * kSecond);
  *target->mutable_ledger() = *ledger;
  target->set_episodes(1500);
  target->set_distinct_keys(80);
  target->set_exercised(41);
  target->add_missing("9 more after a write");
  v1::Estimate* estimate = target->mutable_estimate();
  estimate->set_reads(87'654);
  estimate->set_wrong_ppm(123.4);
  estimate->set_low_ppm(40);
  estimate->set_high_ppm(380);
  v1::StratumReport* stratum = target->add_strata();
  stratum->set_name("uncertified");
  stratum->set_judged(412);
  stratum->set_confirmed(4);
  target->add_strata()->set_name("old");
  v1::Flip* flip = report.add_flips();
  flip->set_tenant("acme");
  flip->set_from("SHADOW");
  flip->set_to("CACHE 5 %");
  flip->set_who("controller");
  flip->set_why("window 11 is clean");
  flip->set_at_us(kNow - 20 * kSecond);
  flip->set_receipt_id("r-3");
  EXPECT_EQ(absl::StrCat("\n", ReportText(report, Terminal())), R"(
permissions: catalog revision 7, as of now

Ledger
VERDICT       READS    SHARE  MEANING
matched       9,980  99.80 %  the same
excused           0      0 %  the same under the endpoint's declared rules
healed           12   0.12 %  differed, and was replaced within the freshness bound
confirmed         5   0.05 %  wrong, with proof
inconclusive      0      0 %  still undecided after the last look
errored           0      0 %  one side failed
shed              0      0 %  not judged: verification was over its budget
lost              0      0 %  not judged: a replica ended before it could
pending           3   0.03 %  being judged
sampled 10,000: balances

Targets
TENANT  MODE   CACHE  WINDOW  SINCE     SAMPLED  EPISODES  KEYS  AFTER A WRITE  WRONG  MISSING
acme    cache    5 %      12  20 s ago   10,000     1,500    80             41      5  9 more after a write

Estimated of all reads
TENANT     STAND FOR     WRONG       95 % INTERVAL  WRONG OF JUDGED, BY WHAT THEY WERE
acme    87,654 reads  0.0123 %  0.004 % to 0.038 %  uncertified 4 of 412

Divergence groups
None.

Flips
WHEN      TENANT  FROM    TO         WHO         RECEIPT  WHY
20 s ago  acme    SHADOW  CACHE 5 %  controller  r-3      window 11 is clean
)");
  report.mutable_ledger()->set_lost(2);
  EXPECT_EQ(Unaccounted(report.ledger()), -2);
  EXPECT_THAT(ReportText(report, Terminal()), HasSubstr("sampled 10,000: does not balance: -2 unaccounted for"));
}

TEST(ReportTest, ShowsNoiseWithTheIntervalOfItsShare) {
  v1::Report report;
  report.set_family("pricing");
  EXPECT_THAT(ReportText(report, Terminal()), Not(HasSubstr("Noise")));
  const auto add = [&](const char* endpoint, const char* pattern, uint64_t pairs, uint64_t differed, uint32_t low,
                       uint32_t high) {
    v1::Noise* noise = report.add_noise();
    noise->set_endpoint(endpoint);
    noise->set_pattern(pattern);
    noise->set_pairs(pairs);
    noise->set_differed(differed);
    noise->set_low_ppm(low);
    noise->set_high_ppm(high);
  };
  add("pricing/list", "", 20, 0, 0, 161'125);
  add("pricing/quote", "", 1'263, 81, 51'820, 79'008);
  add("pricing/quote", "/rank: value", 1'263, 81, 51'820, 79'008);
  EXPECT_THAT(ReportText(report, Terminal()), HasSubstr(R"(
Noise
ENDPOINT       WHERE         PAIRS  DIFFERED   SHARE  95 % BETWEEN
pricing/list   anywhere         20         0     0 %  0 % and 16.1125 %
pricing/quote  anywhere      1,263        81  6.41 %  5.182 % and 7.9008 %
pricing/quote  /rank: value  1,263        81  6.41 %  5.182 % and 7.9008 %
what two readings of one snapshot say differently: no fault of the cache
)"));
}

TEST(ReplayTest, SaysWhetherTheyDifferAndWhetherItIsStillTheSameFill) {
  v1::ReplayDivergenceResponse replay;
  replay.set_verdict("differs");
  replay.set_control_found(true);
  replay.set_control_snapshot("7:7:");
  replay.set_candidate_found(true);
  replay.set_fill("00ff");
  replay.set_same_fill(true);
  replay.set_age_us(12 * kSecond);
  replay.set_catalog_revision(3);
  v1::Difference* difference = replay.add_differences();
  difference->set_pointer("/price");
  difference->set_kind("value");
  difference->set_control("1");
  difference->set_candidate("2");
  replay.set_differences_total(4);
  std::string text = ReplayText(replay, Terminal());
  for (const char* part : {"they differ\n", "has an answer, snapshot 7:7:", "loaded 12 s ago",
                           "00ff, the one that was confirmed to be wrong", "revision 3", "/price", "and 3 more"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  replay.Clear();
  replay.set_verdict("not_cached");
  text = ReplayText(replay, Terminal());
  EXPECT_THAT(text, HasSubstr("nothing is cached for this read now"));
  EXPECT_THAT(text, HasSubstr("has no such row"));
  EXPECT_THAT(text, Not(HasSubstr("fill")));
}

TEST(ReplayTest, OfWhatOnlyTheApplicationCanReadIsShownWhatWasKept) {
  v1::ReplayDivergenceResponse replay;
  replay.set_verdict("not_read");
  replay.set_key("id=7");
  v1::Difference* difference = replay.add_differences();
  difference->set_pointer("/level");
  difference->set_control("41");
  difference->set_candidate("40");
  const std::string text = ReplayText(replay, Terminal());
  for (const char* part : {"only the application can make this read again", "id=7", "/level", "41", "40"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  for (const char* part : {"database  ", "cache", "fill"}) EXPECT_THAT(text, Not(HasSubstr(part)));
}

TEST(InspectionTest, AnAnswerIsShownWithTheFencesThatItStandsBehind) {
  v1::InspectResponse inspection;
  inspection.set_key("sl:acme:pricing/quote:k");
  inspection.set_state(v1::InspectResponse::STATE_ANSWER);
  inspection.set_found(true);
  inspection.set_fill("6f9619ff");
  inspection.set_loaded_at_us(kNow - 3 * kSecond);
  inspection.set_ttl_us(57 * kSecond);
  inspection.set_snapshot("740:740:");
  inspection.set_catalog_revision(7);
  inspection.set_etag(0xabc);
  inspection.set_body_bytes(1200);
  inspection.set_stored_bytes(400);
  v1::InspectedFence* fence = inspection.add_fences();
  fence->set_tag("account:42");
  fence->set_stands(true);
  fence->set_of_value(true);
  fence->set_invalidated_at_us(kNow - 12 * kSecond);
  EXPECT_EQ(absl::StrCat("\n", InspectionText(inspection, Terminal())), R"(
a value that would be an answer

key       sl:acme:pricing/quote:k
loaded    3 s ago by fill 6f9619ff under catalog revision 7
snapshot  740:740:
answer    1,200 bytes, etag 0000000000000abc
stored    400 bytes, for 57 s more

TAG         FENCE   OF THE VALUE  INVALIDATED  WAITS FOR
account:42  stands  yes           12 s ago     -
)");
}

TEST(InspectionTest, WhatIsNoAnswerSaysWhy) {
  v1::InspectResponse inspection;
  inspection.set_key("k");
  inspection.set_state(v1::InspectResponse::STATE_OUTDATED);
  inspection.set_why("account:42 was invalidated since");
  v1::InspectedFence* fence = inspection.add_fences();
  fence->set_tag("account:42");
  fence->set_stands(true);
  fence->add_transactions(740);
  fence->add_transactions(739);
  inspection.add_fences()->set_tag("region:\x1b[2J");
  const std::string text = InspectionText(inspection, Terminal());
  EXPECT_THAT(text, HasSubstr("a value that is no answer any more: account:42 was invalidated since\n"));
  EXPECT_THAT(text, HasSubstr("answer    there is no such row\n"));
  EXPECT_THAT(text, HasSubstr("stands  no            -            transaction 740, 739\n"));
  EXPECT_THAT(text, HasSubstr("region:\\x1b[2J  none    no            -            -\n"));

  inspection.Clear();
  inspection.set_key("k");
  inspection.set_state(v1::InspectResponse::STATE_ABSENT);
  EXPECT_EQ(InspectionText(inspection, Terminal()), "nothing\n\nkey       k\n");
  inspection.set_state(v1::InspectResponse::STATE_GARBAGE);
  inspection.set_why("another program's bytes");
  inspection.set_stored_bytes(9);
  EXPECT_EQ(InspectionText(inspection, Terminal()),
            "bytes that are no value: another program's bytes\n\nkey       k\nstored    9 bytes\n");
}

TEST(FlagTableTest, ShowsSharesOnlyWhereTheyMeanSomething) {
  v1::ListFlagsResponse flags;
  EXPECT_EQ(FlagTable(flags, Terminal()), "No flags.\n");
  v1::Flag* flag = flags.add_flags();
  flag->set_family("pricing");
  flag->set_tenant("acme");
  flag->set_mode(v1::MODE_SHADOW);
  flag->set_sample_ppm(1'000'000);
  flag->set_epoch(1);
  flag->set_revision(1234);
  flag->set_window(3);
  flag->set_reason("rollout 41");
  flag->set_changed_at_us(kNow - 3 * kSecond);
  EXPECT_EQ(absl::StrCat("\n", FlagTable(flags, Terminal())), R"(
FAMILY   TENANT  MODE    CACHE  SAMPLED  EPOCH  WINDOW  REVISION  CHANGED  WHY
pricing  acme    shadow      -    100 %      1       3     1,234  3 s ago  rollout 41
)");
}

TEST(ReadOriginTest, NamesSourceAgeAndReason) {
  v1::ReadResponse response;
  response.set_found(true);
  response.set_source(v1::SOURCE_CACHE);
  response.set_reason(v1::READ_REASON_CACHE_HIT);
  response.set_age_us(1'250'000);
  response.set_etag(0xAB);
  response.set_flag_revision(12);
  EXPECT_EQ(ReadOrigin(response), "cache, 1.2 s old: the cache had it (flag revision 12, etag 00000000000000ab)");
  response.set_age_us(-1);  // An application's own cache.
  EXPECT_EQ(ReadOrigin(response), "cache, of unknown age: the cache had it (flag revision 12, etag 00000000000000ab)");
}

TEST(CohortArgumentTest, IsTenantsOrAShare) {
  EXPECT_EQ(ParseCohort("canary=acme,globex")->DebugString(),
            "name: \"canary\"\ntenants: \"acme\"\ntenants: \"globex\"\n");
  EXPECT_EQ(ParseCohort("5%")->DebugString(), "name: \"5%\"\nshare_ppm: 50000\n");
  EXPECT_EQ(ParseCohort("early=0.25%")->DebugString(), "name: \"early\"\nshare_ppm: 2500\n");
  EXPECT_EQ(ParseCohort("rest")->DebugString(), "name: \"rest\"\nshare_ppm: 1000000\n");
  for (const char* wrong : {"", "acme", "=acme", "canary=", "canary=a,,b", "101%", "0%", "x=-1%"}) {
    EXPECT_EQ(ParseCohort(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(PolicyArgumentTest, SetsOneField) {
  v1::Policy policy;
  for (const char* text : {"duration=10s", "episodes=50", "slo=0.1%", "confidence_ppm=950000", "ramp=5%,100%",
                           "shadow_sample=100%", "approval=true", "sample_by=keys", "soak=2s"}) {
    EXPECT_TRUE(ParsePolicyOverride(text, &policy).ok()) << text;
  }
  EXPECT_EQ(policy.duration(), "10s");
  EXPECT_EQ(policy.episodes(), 50u);
  EXPECT_EQ(policy.slo_ppm(), 1000u);
  EXPECT_EQ(policy.confidence_ppm(), 950'000u);
  EXPECT_THAT(policy.ramp_ppm(), ElementsAre(50'000u, 1'000'000u));
  EXPECT_EQ(policy.shadow_sample_ppm(), 1'000'000u);
  EXPECT_TRUE(policy.approval());
  EXPECT_EQ(policy.soak(), "2s");
}

TEST(PolicyArgumentTest, SaysWhatIsWrong) {
  v1::Policy policy;
  EXPECT_THAT(ParsePolicyOverride("colour=red", &policy).message(), HasSubstr("expected one of duration, episodes"));
  EXPECT_THAT(ParsePolicyOverride("duration=10", &policy).message(), HasSubstr("a duration such as"));
  EXPECT_THAT(ParsePolicyOverride("slo=0.1", &policy).message(), HasSubstr("a share such as"));
  EXPECT_THAT(ParsePolicyOverride("episodes=many", &policy).message(), HasSubstr("a whole number"));
  EXPECT_THAT(ParsePolicyOverride("episodes", &policy).message(), HasSubstr("name=value"));
}

TEST(ParameterArgumentTest, GuessesScalarsAndIsToldTheRest) {
  const auto value = [](const char* text) { return ParseParameter(text)->value().ShortDebugString(); };
  EXPECT_EQ(value("id=42"), "integer: 42");
  EXPECT_EQ(value("share=-1.5"), "number: -1.5");
  EXPECT_EQ(value("all=true"), "boolean: true");
  EXPECT_EQ(value("name=a=b"), "text: \"a=b\"");
  EXPECT_EQ(value("name=inf"), "text: \"inf\"");
  EXPECT_EQ(value("zip:text=01234"), "text: \"01234\"");
  EXPECT_EQ(value("ids:integer_set=1,2"), "integers { values: 1 values: 2 }");
  EXPECT_EQ(value("tags:text_list=a,b"), "texts { values: \"a\" values: \"b\" }");
  EXPECT_EQ(value("viewer:null="), "");
  for (const char* wrong :
       {"id", "=1", "id:integer=x", "id:float=1", ":text=a", "ids:integer_list=1,x", "x:number=nan"}) {
    EXPECT_EQ(ParseParameter(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
}

}  // namespace
}  // namespace shadowline::console
