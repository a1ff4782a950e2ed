// A seal opens for whoever has its key, for the divergence that it belongs to, and says clearly why it does not.
#include "diff/evidence/seal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"

namespace shadowline::diff {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kKey(32, 'k');
const std::string kOther(40, 'o');

SealedContents Contents(const std::string& value = "CANARY") {
  SealedContents contents;
  contents.parameters = {{"account", "text", false, value}, {"region", "text", true, ""}};
  contents.values = {{"\"CANARY-A\"", "\"CANARY-B\""}};
  contents.tags = {{"account:#1", "account:CANARY"}};
  contents.key = "app:CANARY";
  return contents;
}

TEST(SealTest, OpensToWhatWasSealed) {
  const Sealer sealer({kKey});
  const std::string seal = sealer.Seal(Contents(), "acme", "id");
  EXPECT_THAT(seal, Not(HasSubstr("CANARY")));
  const auto opened = sealer.Open(seal, "acme", "id");
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_EQ(opened->parameters.size(), 2u);
  EXPECT_EQ(opened->parameters[0].value, "CANARY");
  EXPECT_EQ(opened->parameters[0].type, "text");
  EXPECT_TRUE(opened->parameters[1].is_null);
  EXPECT_EQ(opened->values, Contents().values);
  EXPECT_EQ(opened->tags, Contents().tags);
  EXPECT_EQ(opened->key, "app:CANARY");
}

TEST(SealTest, OpensForItsTenantAndItsDivergenceAlone) {
  const Sealer sealer({kKey});
  const std::string seal = sealer.Seal(Contents(), "acme", "id");
  for (const auto& [tenant, id] : {std::pair("globex", "id"), std::pair("acme", "di"), std::pair("acmei", "d")}) {
    EXPECT_EQ(sealer.Open(seal, tenant, id).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(SealTest, EveryFlippedBitAndEveryCutIsNoticed) {
  const Sealer sealer({kKey});
  const std::string seal = sealer.Seal(Contents(), "acme", "id");
  for (size_t bit = 0; bit < 8 * seal.size(); ++bit) {
    std::string flipped = seal;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(sealer.Open(flipped, "acme", "id").ok()) << bit;
  }
  for (size_t size = 0; size < seal.size(); ++size) EXPECT_FALSE(sealer.Open(seal.substr(0, size), "acme", "id").ok());
}

TEST(SealTest, AFormerKeyOpensAndAnUnknownOneIsNamed) {
  const std::string seal = Sealer({kKey}).Seal(Contents(), "acme", "id");
  EXPECT_TRUE(Sealer({kOther, kKey}).Open(seal, "acme", "id").ok());
  const absl::Status status = Sealer({kOther}).Open(seal, "acme", "id").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("encrypted under key "));
  EXPECT_NE(Sealer({kOther, kKey}).Seal(Contents(), "acme", "id"), seal) << "the first key seals";
}

TEST(SealTest, NoTwoContentsMeetUnderOneNonce) {
  const Sealer sealer({kKey});
  std::set<std::string> nonces;
  for (int i = 0; i < 1000; ++i) nonces.insert(sealer.Seal(Contents(absl::StrCat(i)), "acme", "id").substr(5, 12));
  EXPECT_EQ(nonces.size(), 1000u);
}

TEST(SealTest, NothingIsSealedAsWell) {
  const Sealer sealer({kKey});
  EXPECT_TRUE(sealer.Open(sealer.Seal({}, "", ""), "", "").ok());
}

}  // namespace
}  // namespace shadowline::diff
