// Findings: everything that is wrong with a document, each at its place, in the document's order.
#ifndef SHADOWLINE_CACHE_CATALOG_FINDINGS_H_
#define SHADOWLINE_CACHE_CATALOG_FINDINGS_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/yaml.h"

namespace shadowline::cache {

class Findings {
 public:
  void Add(const Position& position, absl::string_view path, absl::string_view what) {
    // A finding is a line, whatever it quotes.
    std::string line = absl::StrCat(position.line, ":", position.column, ": ", path, path.empty() ? "" : ": ", what);
    std::replace(line.begin(), line.end(), '\n', ' ');
    if (line.size() > kLineBytes) line = absl::StrCat(line.substr(0, kLineBytes), "...");
    findings_.emplace_back(position, std::move(line));
  }

  bool empty() const { return findings_.empty(); }

  // OK where nothing was found; else kInvalidArgument, one finding a line. It is bounded: a status has to fit into a
  // reply's trailers.
  absl::Status Result() const {
    if (findings_.empty()) return absl::OkStatus();
    auto sorted = findings_;
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& left, const auto& right) {
      return std::pair(left.first.line, left.first.column) < std::pair(right.first.line, right.first.column);
    });
    std::string text;
    for (size_t i = 0; i < sorted.size(); ++i) {
      if (i > 0 && text.size() + sorted[i].second.size() > kTextBytes) {
        absl::StrAppend(&text, "\nand ", sorted.size() - i, " more");
        break;
      }
      absl::StrAppend(&text, i > 0 ? "\n" : "", sorted[i].second);
    }
    return absl::InvalidArgumentError(text);
  }

 private:
  static constexpr size_t kLineBytes = 400;
  static constexpr size_t kTextBytes = 4000;

  std::vector<std::pair<Position, std::string>> findings_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_FINDINGS_H_
