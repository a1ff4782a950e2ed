// FileSpool is a Spool in a folder: one file for each life of a process, `<replica>.spool`, that it alone writes and
// keeps locked (flock) for as long as it lives. A file that nobody has locked was left by a process that has died.
//
// A file is a magic word and frames:
//
//   length   4 bytes, little-endian, of kind and record
//   checksum 8 bytes, little-endian, XXH3-64 of kind and record
//   kind     1 byte: 1 owner (replica, name), 2 divergence, 3 flush
//   record   diff/evidence/record.h; of the owner two texts with their lengths
//
// Frames are appended and synced. Whatever kill -9 or a full disk leaves behind the last whole frame is ignored. The
// file is replaced as a whole by another that is renamed over it.
//
// Ownership: the destructor gives the lock up, and removes a file that holds nothing.
// Limits:    max_bytes of its own file.
#ifndef SHADOWLINE_DIFF_EVIDENCE_FILE_FILE_SPOOL_H_
#define SHADOWLINE_DIFF_EVIDENCE_FILE_FILE_SPOOL_H_

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "diff/evidence/spool.h"

namespace shadowline::diff {

class FileSpool final : public Spool {
 public:
  struct Options {
    std::string folder;   // Made if it does not exist; what contains it does.
    std::string replica;  // A UUID that belongs to this process alone.
    std::string name;     // For people.
    size_t max_bytes = 64 << 20;
  };

  // kFailedPrecondition: the folder cannot be made or written.
  static absl::StatusOr<std::unique_ptr<FileSpool>> Open(Options options);
  FileSpool(const FileSpool&) = delete;
  FileSpool& operator=(const FileSpool&) = delete;
  ~FileSpool() override;

  absl::Status Append(const Divergence& divergence) override;
  absl::Status Replace(const std::vector<Divergence>& divergences, const Flush* flush) override;
  // Files that cannot be read are left where they are, and logged once.
  absl::StatusOr<std::optional<Legacy>> Inherit() override;
  absl::Status Forget(const std::string& id) override;

 private:
  // An open descriptor; closing it gives the lock up.
  class Descriptor {
   public:
    explicit Descriptor(int descriptor = -1) : descriptor_(descriptor) {}
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor();
    int get() const { return descriptor_; }
    bool valid() const { return descriptor_ >= 0; }

   private:
    int descriptor_;
  };

  explicit FileSpool(Options options);
  std::string Path(const std::string& id, const char* suffix) const;
  // A locked file with these bytes in the place of this process's own.
  absl::Status Write(const std::string& bytes);
  // Locks the file if its process has died.
  Descriptor TakeOver(const std::string& id) const;
  static absl::StatusOr<Legacy> Read(const std::string& id, absl::string_view bytes);

  const Options options_;
  const std::string beginning_;  // Of every file of this process.
  Descriptor own_;
  size_t size_ = 0;
  std::map<std::string, Descriptor> inherited_;
  std::set<std::string> unreadable_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_FILE_FILE_SPOOL_H_
