#include "tests/bench/compare/documents.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/random.h"

namespace shadowline::bench {
namespace {

using base::Random;

constexpr const char* kWords[] = {
    "order",   "shipped", "Zürich", "naïve",   "customer", "asks for", "a \\\"gift\\\"", "wrapped",
    "Łódź",    "twice",   "back",   "東京",    "line\\n",  "express",  "before noon",    "box",
    "C:\\\\x", "thanks",  "tax",    "invoice", "blue",     "large",    "fragile",        "café"};

// Members in their order, so that they can be written in another.
using Members = std::vector<std::pair<std::string, std::string>>;

class Writer {
 public:
  explicit Writer(uint64_t shuffle_seed) : shuffle_(shuffle_seed) {}

  std::string Object(Members members, bool shuffle) {
    if (shuffle) {
      for (size_t i = members.size(); i-- > 1;) std::swap(members[i], members[shuffle_.Below(i + 1)]);
    }
    return absl::StrCat("{",
                        absl::StrJoin(members, ",",
                                      [](std::string* out, const auto& member) {
                                        absl::StrAppend(out, "\"", member.first, "\":", member.second);
                                      }),
                        "}");
  }

 private:
  Random shuffle_;
};

std::string Sentence(Random* random, size_t words) {
  std::string text = "\"";
  for (size_t i = 0; i < words; ++i) {
    absl::StrAppend(&text, i > 0 ? " " : "", kWords[random->Below(std::size(kWords))]);
  }
  return text + "\"";
}

std::string Price(Random* random) { return absl::StrFormat("%d.%02d", random->Below(2000), random->Below(100)); }

std::string Time(Random* random) {
  return absl::StrFormat("\"2026-%02d-%02dT%02d:%02d:%02d.%06d+00:00\"", 1 + random->Below(12), 1 + random->Below(28),
                         random->Below(24), random->Below(60), random->Below(60), random->Below(1'000'000));
}

std::string Line(Random* random, Writer* writer, bool shuffle, bool change) {
  const std::string price = Price(random);
  return writer->Object({{"line_id", absl::StrCat(random->Below(10'000'000))},
                         {"sku", absl::StrFormat("\"SKU-%06d\"", random->Below(1'000'000))},
                         {"title", Sentence(random, 3)},
                         {"quantity", absl::StrCat(1 + random->Below(9))},
                         {"unit_price", change ? price + "1" : price},
                         {"tags", absl::StrCat("[", Sentence(random, 1), ",", Sentence(random, 1), "]")}},
                        shuffle);
}

std::string Row(Random* random, Writer* writer, size_t more_lines, bool shuffle, bool change) {
  std::vector<std::string> lines;
  const size_t count = 1 + random->Below(3) + more_lines;
  for (size_t i = 0; i < count; ++i) lines.push_back(Line(random, writer, shuffle, change && i == 0));
  return writer->Object(
      {{"order_id", absl::StrCat(1'000'000 + random->Below(9'000'000))},
       {"public_id",
        absl::StrFormat("\"%08x-%04x-4%03x-a%03x-%012x\"", random->Below(1ull << 32), random->Below(1 << 16),
                        random->Below(1 << 12), random->Below(1 << 12), random->Below(1ull << 48))},
       {"customer_id", absl::StrCat(random->Below(100'000))},
       {"status", random->Below(2) == 0 ? "\"shipped\"" : "\"paid\""},
       {"total", Price(random)},
       {"discount", random->Below(3) == 0 ? "null" : Price(random)},
       {"is_gift", random->Below(2) == 0 ? "true" : "false"},
       {"placed_at", Time(random)},
       {"last_update", Time(random)},
       {"note", Sentence(random, 4 + random->Below(8))},
       {"ship_to",
        writer->Object({{"name", Sentence(random, 2)},
                        {"city", Sentence(random, 1)},
                        {"postal_code", absl::StrFormat("\"%05d\"", random->Below(100'000))},
                        {"position", absl::StrFormat("[%d.%06d,%d.%06d]", random->Below(90), random->Below(1'000'000),
                                                     random->Below(180), random->Below(1'000'000))}},
                       shuffle)},
       {"lines", absl::StrCat("[", absl::StrJoin(lines, ","), "]")}},
      shuffle);
}

struct Size {
  size_t rows = 1;
  size_t more_lines = 0;  // In the last row.
};

std::string Render(uint64_t seed, const Size& size, bool shuffle, bool change) {
  Random random(seed);
  Writer writer(seed + 1);
  std::vector<std::string> rows;
  for (size_t i = 0; i < size.rows; ++i) {
    const size_t more_lines = i + 1 == size.rows ? size.more_lines : 0;
    rows.push_back(Row(&random, &writer, more_lines, shuffle, change && i == size.rows / 2));
  }
  return writer.Object({{"rows", absl::StrCat("[", absl::StrJoin(rows, ","), "]")}, {"count", absl::StrCat(size.rows)}},
                       shuffle);
}

}  // namespace

Documents MakeDocuments(uint64_t seed, size_t bytes) {
  const auto fits = [&](size_t rows, size_t more_lines) {
    return Render(seed, {rows, more_lines}, false, false).size() <= bytes;
  };
  Size size;
  while (fits(size.rows + 1, 0)) ++size.rows;
  while (fits(size.rows, size.more_lines + 1)) ++size.more_lines;
  return {Render(seed, size, false, false), Render(seed, size, true, false), Render(seed, size, false, true)};
}

}  // namespace shadowline::bench
