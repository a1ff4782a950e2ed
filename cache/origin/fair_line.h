// FairLine is where those wait who cannot be served at once: one line per tenant, which take turns, so that a tenant
// that asks a thousand times waits behind itself and not before everybody else (fair queueing; J. Nagle, RFC 970,
// 1985).
//
// Threads: compatible.
// Cost:    O(tenants that wait) to push, O(1) to pop, O(waiting) to remove from the middle.
#ifndef SHADOWLINE_CACHE_ORIGIN_FAIR_LINE_H_
#define SHADOWLINE_CACHE_ORIGIN_FAIR_LINE_H_

#include <algorithm>
#include <cstddef>
#include <deque>
#include <list>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace shadowline::cache {

template <typename Item>
class FairLine {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  void Push(absl::string_view tenant, Item item) {
    auto line = Find(tenant);
    // Who comes new waits for all others' turns once.
    if (line == lines_.end()) line = lines_.insert(line, Line{std::string(tenant), {}});
    line->items.push_back(std::move(item));
    ++size_;
  }

  enum class Take { kOldest, kNewest };
  // From the tenant whose turn it is. REQUIRES: not empty.
  Item Pop(Take take) {
    Line& line = lines_.front();
    Item item = take == Take::kOldest ? std::move(line.items.front()) : std::move(line.items.back());
    take == Take::kOldest ? line.items.pop_front() : line.items.pop_back();
    --size_;
    line.items.empty() ? lines_.pop_front() : lines_.splice(lines_.end(), lines_, lines_.begin());
    return item;
  }

  // The oldest of whoever has the most in line. REQUIRES: not empty.
  Item PopOldestOfLongest() {
    const auto longest = std::max_element(lines_.begin(), lines_.end(),
                                          [](const Line& a, const Line& b) { return a.items.size() < b.items.size(); });
    Item item = std::move(longest->items.front());
    longest->items.pop_front();
    --size_;
    if (longest->items.empty()) lines_.erase(longest);
    return item;
  }

  // False: `item` is not in line.
  bool Remove(absl::string_view tenant, const Item& item) {
    const auto line = Find(tenant);
    if (line == lines_.end()) return false;
    const auto found = std::find(line->items.begin(), line->items.end(), item);
    if (found == line->items.end()) return false;
    line->items.erase(found);
    --size_;
    if (line->items.empty()) lines_.erase(line);
    return true;
  }

 private:
  struct Line {
    std::string tenant;
    std::deque<Item> items;
  };

  typename std::list<Line>::iterator Find(absl::string_view tenant) {
    return std::find_if(lines_.begin(), lines_.end(), [&](const Line& line) { return line.tenant == tenant; });
  }

  std::list<Line> lines_;  // In the order of their turns; none is empty.
  size_t size_ = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_FAIR_LINE_H_
