// Documents as an application's rows look when PostgreSQL renders them: ids, decimals, timestamps, text with some
// escapes and some letters beyond ASCII, nested arrays. Seeded: one seed, one document.
#ifndef SHADOWLINE_TESTS_BENCH_COMPARE_DOCUMENTS_H_
#define SHADOWLINE_TESTS_BENCH_COMPARE_DOCUMENTS_H_

#include <cstdint>
#include <string>

namespace shadowline::bench {

// The same rows three times.
struct Documents {
  std::string control;
  std::string reordered;  // The members of every object in another order.
  std::string one_field;  // One price, in the middle, is another.
};

// `bytes` is about the size of each.
Documents MakeDocuments(uint64_t seed, size_t bytes);

}  // namespace shadowline::bench

#endif  // SHADOWLINE_TESTS_BENCH_COMPARE_DOCUMENTS_H_
