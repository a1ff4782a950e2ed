#include "diff/evidence/file/file_spool.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"
#include "diff/evidence/record.h"

namespace shadowline::diff {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kMagic = "SLSPOOL1";
constexpr char kSuffix[] = ".spool";
constexpr char kNewSuffix[] = ".new";
constexpr size_t kHeadBytes = 4 + 8;
// A file that claims more was not written by this program.
constexpr size_t kReadableBytes = size_t{1} << 30;

enum Kind : char { kOwner = 1, kDivergence = 2, kFlush = 3 };

template <typename Number>
void AppendNumber(Number number, std::string* out) {
  for (size_t i = 0; i < sizeof(Number); ++i) out->push_back(static_cast<char>(number >> (8 * i)));
}

template <typename Number>
Number ReadNumber(absl::string_view bytes) {
  Number number = 0;
  for (size_t i = 0; i < sizeof(Number); ++i) {
    number |= static_cast<Number>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return number;
}

std::string Frame(Kind kind, absl::string_view record) {
  const std::string body = absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&kind), 1), record);
  std::string frame;
  AppendNumber(static_cast<uint32_t>(body.size()), &frame);
  AppendNumber(base::Hash64(body), &frame);
  return frame + body;
}

std::string Beginning(const FileSpool::Options& options) {
  std::string owner;
  for (const std::string& text : {options.replica, options.name}) {
    AppendNumber(static_cast<uint32_t>(text.size()), &owner);
    owner += text;
  }
  return absl::StrCat(kMagic, Frame(kOwner, owner));
}

bool TakeText(absl::string_view* bytes, std::string* text) {
  if (bytes->size() < 4) return false;
  const uint32_t size = ReadNumber<uint32_t>(*bytes);
  bytes->remove_prefix(4);
  if (bytes->size() < size) return false;
  *text = std::string(bytes->substr(0, size));
  bytes->remove_prefix(size);
  return true;
}

absl::Status Failed(const std::string& path, const char* step) {
  const std::string what = absl::StrCat(path, ": ", step, ": ", std::generic_category().message(errno));
  if (errno == ENOSPC || errno == EDQUOT) return absl::ResourceExhaustedError(what);
  return absl::FailedPreconditionError(what);
}

bool WriteAll(int descriptor, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

bool ReadAll(int descriptor, size_t size, std::string* bytes) {
  bytes->resize(size);
  size_t have = 0;
  while (have < size) {
    const ssize_t got = ::pread(descriptor, bytes->data() + have, size - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  bytes->resize(have);
  return true;
}

// So that the name is on the disk as well.
void SyncFolder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

FileSpool::Descriptor::Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileSpool::Descriptor& FileSpool::Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileSpool::Descriptor::~Descriptor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileSpool::FileSpool(Options options) : options_(std::move(options)), beginning_(Beginning(options_)) {}

FileSpool::~FileSpool() {
  if (own_.valid() && size_ == beginning_.size()) ::unlink(Path(options_.replica, kSuffix).c_str());
}

absl::StatusOr<std::unique_ptr<FileSpool>> FileSpool::Open(Options options) {
  if (::mkdir(options.folder.c_str(), 0700) != 0 && errno != EEXIST) return Failed(options.folder, "mkdir");
  std::unique_ptr<FileSpool> spool(new FileSpool(std::move(options)));
  RETURN_IF_ERROR(spool->Write(spool->beginning_));
  return spool;
}

std::string FileSpool::Path(const std::string& id, const char* suffix) const {
  return absl::StrCat(options_.folder, "/", id, suffix);
}

absl::Status FileSpool::Write(const std::string& bytes) {
  const std::string path = Path(options_.replica, kNewSuffix);
  Descriptor fresh(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
  if (!fresh.valid()) return Failed(path, "open");
  // Locked before it has the name by which others look for it.
  if (::flock(fresh.get(), LOCK_EX | LOCK_NB) != 0) return Failed(path, "flock");
  if (!WriteAll(fresh.get(), bytes)) return Failed(path, "write");
  if (::fsync(fresh.get()) != 0) return Failed(path, "fsync");
  if (::rename(path.c_str(), Path(options_.replica, kSuffix).c_str()) != 0) return Failed(path, "rename");
  SyncFolder(options_.folder);
  own_ = std::move(fresh);
  size_ = bytes.size();
  return absl::OkStatus();
}

absl::Status FileSpool::Append(const Divergence& divergence) {
  const std::string path = Path(options_.replica, kSuffix);
  const std::string frame = Frame(kDivergence, EncodeDivergence(divergence));
  if (size_ + frame.size() > options_.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(path, ": evidence.spool_max_bytes is reached"));
  }
  if (!WriteAll(own_.get(), frame) || ::fdatasync(own_.get()) != 0) {
    const absl::Status failed = Failed(path, "append");
    // Behind half a frame nothing would be found.
    if (::ftruncate(own_.get(), static_cast<off_t>(size_)) != 0) {
      base::Log(base::Level::kError, "spool_not_mended", {{"file", path}});
    }
    return failed;
  }
  size_ += frame.size();
  return absl::OkStatus();
}

absl::Status FileSpool::Replace(const std::vector<Divergence>& divergences, const Flush* flush) {
  if (divergences.empty() && flush == nullptr) {
    // What is stored may be replayed: that this reaches the disk is not worth waiting for.
    if (::ftruncate(own_.get(), static_cast<off_t>(beginning_.size())) != 0) {
      return Failed(Path(options_.replica, kSuffix), "truncate");
    }
    size_ = beginning_.size();
    return absl::OkStatus();
  }
  std::string bytes = beginning_;
  std::string left_out;
  for (const Divergence& divergence : divergences) {
    const std::string frame = Frame(kDivergence, EncodeDivergence(divergence));
    if (bytes.size() + frame.size() > options_.max_bytes) {
      left_out = "divergences and counts";
      break;
    }
    bytes += frame;
  }
  if (flush != nullptr && left_out.empty()) {
    std::string frame = Frame(kFlush, EncodeFlush(*flush));
    if (bytes.size() + frame.size() > options_.max_bytes) {
      left_out = "episodes";
      Flush smaller = *flush;
      smaller.episodes.clear();
      frame = Frame(kFlush, EncodeFlush(smaller));
    }
    if (bytes.size() + frame.size() > options_.max_bytes) {
      left_out = "counts";
    } else {
      bytes += frame;
    }
  }
  RETURN_IF_ERROR(Write(bytes));
  if (left_out.empty()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(Path(options_.replica, kSuffix), ": evidence.spool_max_bytes is reached; left out: ", left_out));
}

FileSpool::Descriptor FileSpool::TakeOver(const std::string& id) const {
  const std::string path = Path(id, kSuffix);
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return Descriptor();
  // A live process may have put another file in its place between the two; then this lock says nothing of it.
  struct stat opened = {};
  struct stat named = {};
  if (::fstat(file.get(), &opened) != 0 || ::stat(path.c_str(), &named) != 0 || opened.st_ino != named.st_ino) {
    return Descriptor();
  }
  return file;
}

absl::StatusOr<Legacy> FileSpool::Read(const std::string& id, absl::string_view bytes) {
  if (!absl::StartsWith(bytes, kMagic)) return absl::DataLossError("not a spool that this program can read");
  bytes.remove_prefix(kMagic.size());
  Legacy legacy;
  legacy.id = id;
  while (bytes.size() > kHeadBytes) {
    const uint32_t length = ReadNumber<uint32_t>(bytes);
    const uint64_t checksum = ReadNumber<uint64_t>(bytes.substr(4));
    bytes.remove_prefix(kHeadBytes);
    if (length == 0 || length > bytes.size()) break;
    const absl::string_view body = bytes.substr(0, length);
    if (base::Hash64(body) != checksum) break;
    bytes.remove_prefix(length);
    absl::string_view record = body.substr(1);
    switch (body[0]) {
      case kOwner:
        if (!TakeText(&record, &legacy.replica) || !TakeText(&record, &legacy.replica_name)) {
          return absl::DataLossError("its owner cannot be read");
        }
        break;
      case kDivergence: {
        ASSIGN_OR_RETURN(Divergence divergence, DecodeDivergence(record));
        legacy.divergences.push_back(std::move(divergence));
        break;
      }
      case kFlush: {
        ASSIGN_OR_RETURN(legacy.flush, DecodeFlush(record));
        break;
      }
      default:
        return absl::DataLossError(absl::StrCat("a frame of kind ", static_cast<int>(body[0])));
    }
  }
  if (legacy.replica.empty()) return absl::DataLossError("it does not say whose it is");
  return legacy;
}

absl::StatusOr<std::optional<Legacy>> FileSpool::Inherit() {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(options_.folder, error)) {
    const fs::path path = entry.path();
    const std::string id = path.stem();
    if (path.extension() != kSuffix || id == options_.replica) continue;
    if (unreadable_.contains(id) || inherited_.contains(id)) continue;
    Descriptor file = TakeOver(id);
    if (!file.valid()) continue;
    struct stat info = {};
    std::string bytes;
    absl::StatusOr<Legacy> legacy = absl::DataLossError("it is too large, or cannot be read");
    if (::fstat(file.get(), &info) == 0 && static_cast<size_t>(info.st_size) <= kReadableBytes &&
        ReadAll(file.get(), static_cast<size_t>(info.st_size), &bytes)) {
      legacy = Read(id, bytes);
    }
    if (!legacy.ok()) {
      unreadable_.insert(id);
      base::Log(base::Level::kError, "spool_unreadable",
                {{"file", path.string()}, {"error", legacy.status().message()}, {"effect", "it is left as it is"}});
      continue;
    }
    inherited_.emplace(id, std::move(file));
    return std::optional<Legacy>(*std::move(legacy));
  }
  if (error) return absl::FailedPreconditionError(absl::StrCat(options_.folder, ": ", error.message()));
  return std::optional<Legacy>();
}

absl::Status FileSpool::Forget(const std::string& id) {
  // The name goes before the lock.
  ::unlink(Path(id, kNewSuffix).c_str());
  const bool removed = ::unlink(Path(id, kSuffix).c_str()) == 0 || errno == ENOENT;
  const absl::Status status = removed ? absl::OkStatus() : Failed(Path(id, kSuffix), "unlink");
  // Kept where it could not be removed: it is not to be found a second time.
  if (removed) inherited_.erase(id);
  return status;
}

}  // namespace shadowline::diff
