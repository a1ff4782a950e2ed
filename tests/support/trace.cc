#include "tests/support/trace.h"

#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace shadowline::support {

std::string SourceFolder() {
  const char* folder = std::getenv("SHADOWLINE_SOURCE_DIR");
  return folder == nullptr ? std::filesystem::current_path().string() : folder;
}

std::string SharedData() {
  const char* shared = std::getenv("SHADOWLINE_SHARED");
  return absl::StrCat(shared == nullptr ? SourceFolder() + "/../shared" : shared, "/data/");
}

std::optional<std::vector<Access>> ReadTrace() {
  const std::string path = SharedData() + "trace_100k.csv.gz";
  if (!std::filesystem::exists(path)) return std::nullopt;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) throw std::runtime_error("cannot open " + path);
  static const auto& kKinds = *new std::map<absl::string_view, Access::Kind>{{"read", Access::kRead},
                                                                             {"update", Access::kUpdate},
                                                                             {"delete", Access::kDelete},
                                                                             {"bulk_update", Access::kBulkUpdate}};
  std::vector<Access> trace;
  char line[256];
  gzgets(file.get(), line, sizeof(line));  // t_ms,tenant,family,id,op,ttl_s
  while (gzgets(file.get(), line, sizeof(line)) != nullptr) {
    const std::vector<std::string> fields = absl::StrSplit(absl::StripSuffix(line, "\n"), ',');
    int64_t at = 0;
    int64_t ttl = 0;
    if (fields.size() != 6 || !absl::SimpleAtoi(fields[0], &at) || !absl::SimpleAtoi(fields[5], &ttl) ||
        !kKinds.contains(fields[4])) {
      throw std::runtime_error(absl::StrCat(path, ": ", line));
    }
    trace.push_back(
        {absl::Milliseconds(at), fields[1], fields[2], fields[3], kKinds.at(fields[4]), absl::Seconds(ttl)});
  }
  return trace;
}

}  // namespace shadowline::support
