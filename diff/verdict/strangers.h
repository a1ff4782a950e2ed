// Strangers recognises somebody else's answer: it remembers what the control has said lately, to which question of
// whom, and says of a cached answer that differs whether it is another question's.
//
// Equal answers prove nothing where many get the same: an empty list, a default. So an answer is only recognised
//   - if it is long enough,
//   - if the memory knows it as the answer to one question alone,
//   - if the question that it was served to has not had it,
//   - and if the endpoint's answers are known to be many and hardly ever shared.
// Data can also move from one question to another: what was one's own a moment ago is another's now. That is told apart
// by how long the other is known to have had it. What remains is a coincidence of one's past with another's present; an
// endpoint that declares where its answers name their owner excludes that, too.
//
// Pure: it has no clock. Threads: compatible. Limits: Options; what was heard first is forgotten first.
#ifndef SHADOWLINE_DIFF_VERDICT_STRANGERS_H_
#define SHADOWLINE_DIFF_VERDICT_STRANGERS_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::diff {

// Who asked what. Hashes: equal ones are taken for equal texts.
struct Question {
  uint64_t endpoint = 0;
  uint64_t tenant = 0;
  uint64_t identity = 0;    // Of the parameters that name who asks.
  uint64_t parameters = 0;  // Of all others.

  bool operator==(const Question&) const = default;
};

// An answer, by a digest that is equal for equal values.
struct Said {
  uint64_t digest = 0;
  size_t bytes = 0;  // However it is written.
};

enum class Stranger { kNobody, kAnotherTenant, kAnotherIdentity, kOtherParameters };

// "another_tenant", "another_identity", "other_parameters"; empty for kNobody.
absl::string_view StrangerName(Stranger stranger);

struct Recognised {
  Stranger stranger = Stranger::kNobody;
  // When the other was first heard to have it. What is served later than that by more than the freshness bound is wrong
  // here, whosever it was before.
  absl::Duration since;
};

class Strangers {
 public:
  struct Options {
    size_t answers_max = 65'536;
    absl::Duration remembered = absl::Minutes(10);
    // A shorter answer says too little to be anybody's own.
    size_t bytes_least = 24;
    // Of an endpoint: fewer known answers do not tell how alike they are; and of them at most one in `shared_most` may
    // be known of more than one question.
    size_t known_least = 8;
    size_t shared_most = 10;
  };

  Strangers() : Strangers(Options()) {}
  explicit Strangers(Options options) : options_(options) {}

  // The control has answered. `now` never goes back.
  void Heard(const Question& question, Said said, absl::Duration now);

  // Whose is what was served to `question`, and is not what the control says to it?
  Recognised Whose(const Question& question, Said served, absl::Duration now);

 private:
  struct Entry {
    absl::Duration at;
    uint64_t answer;  // Key of answers_,
    uint64_t own;     // and of own_.
  };
  // What is known of an answer, whoever had it.
  struct Answer {
    Question first;
    absl::Duration since;  // Of its first entry.
    bool of_many = false;  // More than one question had it.
    size_t entries = 0;    // In order_.
  };
  // What is known of a question's having had an answer.
  struct Own {
    absl::Duration last;
    size_t entries = 0;
  };

  // What is known of an endpoint's answers.
  struct Variety {
    size_t answers = 0;
    size_t of_many = 0;
  };

  void Forget(absl::Duration now);

  const Options options_;
  absl::flat_hash_map<uint64_t, Answer> answers_;
  absl::flat_hash_map<uint64_t, Own> own_;
  absl::flat_hash_map<uint64_t, Variety> varieties_;  // By endpoint.
  std::deque<Entry> order_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_STRANGERS_H_
