#include "cache/certify/feed.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "cache/key/key.h"

namespace shadowline::cache {
namespace {

constexpr char kVersion = 1;
constexpr size_t kMostBytes = FeedMessage::kMost / 4 * 3;
constexpr size_t kHeaderBytes = 48;       // Or less.
constexpr size_t kTransactionBytes = 24;  // Before its hashes; or less.

template <typename Number>
void PutFixed(Number number, std::string* out) {
  for (size_t i = 0; i < sizeof(Number); ++i, number = static_cast<Number>(number >> 8)) {
    out->push_back(static_cast<char>(number & 0xff));
  }
}

void PutNumber(uint64_t number, std::string* out) {
  for (; number >= 0x80; number >>= 7) out->push_back(static_cast<char>(number | 0x80));
  out->push_back(static_cast<char>(number));
}

// Takes numbers off the front; once something is missing, it fails for good.
class Scanner {
 public:
  explicit Scanner(absl::string_view bytes) : bytes_(bytes) {}

  template <typename Number>
  Number Fixed() {
    if (bytes_.size() < sizeof(Number)) return Fail();
    Number number = 0;
    for (size_t i = sizeof(Number); i > 0; --i) {
      number = static_cast<Number>(number << 8 | static_cast<unsigned char>(bytes_[i - 1]));
    }
    bytes_.remove_prefix(sizeof(Number));
    return number;
  }
  uint64_t Number() {
    uint64_t number = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) break;
      const auto byte = static_cast<unsigned char>(bytes_.front());
      bytes_.remove_prefix(1);
      number |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return number;
    }
    return Fail();
  }
  bool ok() const { return ok_; }
  size_t left() const { return bytes_.size(); }

 private:
  uint8_t Fail() {
    ok_ = false;
    bytes_ = {};
    return 0;
  }

  absl::string_view bytes_;
  bool ok_ = true;
};

}  // namespace

std::string EncodeFeed(const FeedMessage& message) {
  std::string bytes(1, kVersion);
  PutFixed(message.run, &bytes);
  PutNumber(message.number, &bytes);
  PutFixed(message.map, &bytes);
  PutNumber(message.position, &bytes);
  for (const FeedMessage::Touched& touched : message.touched) {
    PutNumber(touched.transaction, &bytes);
    PutNumber(static_cast<uint64_t>(std::max<int64_t>(absl::ToUnixMicros(touched.committed_at), 0)), &bytes);
    PutNumber(touched.hashes.size(), &bytes);
    for (const uint32_t hash : touched.hashes) PutFixed(hash, &bytes);
  }
  return absl::Base64Escape(bytes);
}

absl::StatusOr<FeedMessage> DecodeFeed(absl::string_view text) {
  const absl::Status refused = absl::InvalidArgumentError("not a message of the feed");
  std::string bytes;
  if (!absl::Base64Unescape(text, &bytes)) return refused;
  Scanner scanner(bytes);
  if (scanner.Fixed<uint8_t>() != kVersion) return refused;
  FeedMessage message;
  message.run = scanner.Fixed<uint64_t>();
  message.number = scanner.Number();
  message.map = scanner.Fixed<uint64_t>();
  message.position = scanner.Number();
  while (scanner.ok() && scanner.left() > 0) {
    FeedMessage::Touched& touched = message.touched.emplace_back();
    touched.transaction = scanner.Number();
    touched.committed_at = absl::FromUnixMicros(static_cast<int64_t>(scanner.Number()));
    const uint64_t hashes = scanner.Number();
    if (hashes > scanner.left() / sizeof(uint32_t)) return refused;
    for (uint64_t i = 0; i < hashes; ++i) touched.hashes.push_back(scanner.Fixed<uint32_t>());
  }
  if (!scanner.ok()) return refused;
  return message;
}

std::vector<uint32_t> HashesOf(const Effects& effects) {
  std::vector<uint32_t> hashes;
  hashes.reserve(effects.tags.size() + effects.drops.size());
  for (const TenantTag& tag : effects.tags) hashes.push_back(TagHash(FenceKey(tag.tenant, tag.tag)));
  for (const FamilyDrop& drop : effects.drops) hashes.push_back(FamilyHash(drop.family, drop.tenant));
  return hashes;
}

// ---- Writing ----

void FeedWriter::Begin(uint64_t map) {
  {
    base::MutexLock lock(&mutex_);
    streaming_ = true;
    map_ = map;
    passed_ = 0;
    NextRun();
  }
  wake_();
}

void FeedWriter::Add(const Transaction& transaction) {
  {
    base::MutexLock lock(&mutex_);
    Push(transaction, &touched_);
  }
  wake_();
}

void FeedWriter::AddFromOutbox(const Transaction& transaction) {
  {
    base::MutexLock lock(&mutex_);
    Push(transaction, &outbox_);
  }
  wake_();
}

void FeedWriter::Passed(Lsn position) {
  base::MutexLock lock(&mutex_);
  passed_ = std::max(passed_, position);
}

void FeedWriter::End() {
  base::MutexLock lock(&mutex_);
  streaming_ = false;
}

bool FeedWriter::active() const {
  base::MutexLock lock(&mutex_);
  return streaming_ || hashes_ > 0;
}

bool FeedWriter::waiting() const {
  base::MutexLock lock(&mutex_);
  return hashes_ > 0;
}

uint64_t FeedWriter::overflows() const {
  base::MutexLock lock(&mutex_);
  return overflows_;
}

void FeedWriter::BeginRun() {
  base::MutexLock lock(&mutex_);
  NextRun();
}

void FeedWriter::NextRun() {
  // What waits was committed before the run: nobody is told that nothing was missed.
  touched_.clear();
  outbox_.clear();
  hashes_ = 0;
  run_ = base::Hash64(absl::StrCat(name_, "/", ++runs_)) | 1;
  number_ = 0;
  told_ = 0;
}

void FeedWriter::Push(const Transaction& transaction, std::deque<FeedMessage::Touched>* queue) {
  std::vector<uint32_t> hashes = HashesOf(transaction.effects);
  if (hashes_ + hashes.size() > kHashesMost) {
    ++overflows_;
    return NextRun();
  }
  hashes_ += hashes.size();
  queue->push_back({transaction.xid, transaction.committed_at, std::move(hashes)});
}

std::vector<std::string> FeedWriter::Take() {
  std::vector<FeedMessage> messages;
  base::MutexLock lock(&mutex_);
  // What fits into a message of its own, until nothing is left.
  const auto pack = [&](std::deque<FeedMessage::Touched>* queue) {
    size_t room = 0;
    while (!queue->empty()) {
      FeedMessage::Touched& first = queue->front();
      if (room < kTransactionBytes + sizeof(uint32_t)) {
        messages.emplace_back();
        room = kMostBytes - kHeaderBytes;
      }
      const size_t count = std::min(first.hashes.size(), (room - kTransactionBytes) / sizeof(uint32_t));
      messages.back().touched.push_back({first.transaction,
                                         first.committed_at,
                                         {first.hashes.end() - static_cast<int64_t>(count), first.hashes.end()}});
      room -= kTransactionBytes + count * sizeof(uint32_t);
      first.hashes.resize(first.hashes.size() - count);
      if (first.hashes.empty()) queue->pop_front();
    }
  };
  pack(&outbox_);
  const size_t own = messages.size();
  pack(&touched_);
  hashes_ = 0;
  if (streaming_ && messages.size() == own) messages.emplace_back();
  std::vector<std::string> payloads;
  for (size_t i = 0; i < messages.size(); ++i) {
    FeedMessage& message = messages[i];
    if (i >= own) {
      message.run = run_;
      message.number = ++number_;
      message.map = map_;
      // Only the last one has everything.
      if (i + 1 == messages.size()) told_ = passed_;
      message.position = told_;
    }
    payloads.push_back(EncodeFeed(message));
  }
  return payloads;
}

// ---- Reading ----

void FeedReader::Hear(absl::string_view payload, absl::Duration now) {
  const absl::StatusOr<FeedMessage> message = DecodeFeed(payload);
  if (!message.ok()) return Gap({});
  const bool of_outbox = message->run == 0;
  if (!of_outbox) {
    if (message->run != run_ || message->number != number_ + 1 || message->map != map_) Gap(*message);
    number_ = message->number;
  }
  for (const FeedMessage::Touched& touched : message->touched) {
    certifier_->Touch(touched.transaction, touched.hashes, touched.committed_at, now);
  }
  if (of_outbox) return;
  position_ = std::max(position_, message->position);
  Advance();
}

void FeedReader::Gap(const FeedMessage& message) {
  certifier_->Reset();
  ++gaps_;
  heard_ = message.run != 0;
  began_ = false;
  run_ = message.run;
  map_ = message.map;
  position_ = 0;
  look_.reset();
}

void FeedReader::Began(uint64_t question, uint64_t since) {
  if (wants_since() != question) return;
  began_ = true;
  certifier_->Begin(map_, since);
}

void FeedReader::Looked(uint64_t question, DatabaseSnapshot snapshot, Lsn end, absl::Duration asked_at,
                        absl::Duration answered_at) {
  if (wants_look() != question) return;
  look_ = Look{std::move(snapshot), end, asked_at, answered_at};
  Advance();
}

void FeedReader::Advance() {
  if (!look_.has_value() || position_ < look_->end) return;
  certifier_->Advance(std::move(look_->snapshot), look_->asked_at, look_->answered_at);
  look_.reset();
}

}  // namespace shadowline::cache
