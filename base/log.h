// Structured log lines: one JSON object a line on standard error, with time, level, event and fields.
//
//   base::Log(base::Level::kInfo, "replica_ready", {{"port", 8013}, {"catalog", revision}});
//
// The event is a fixed snake_case word that can be searched for. Never pass values read for a tenant: log lines leave the house.
//
// Threads: thread-safe.
#ifndef SHADOWLINE_BASE_LOG_H_
#define SHADOWLINE_BASE_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace shadowline::base {

enum class Level { kDebug, kInfo, kWarning, kError };

// One field: a text is quoted, a number or boolean is not.
class Field {
 public:
  Field(absl::string_view name, absl::string_view text) : name_(name), value_(text), quoted_(true) {}
  Field(absl::string_view name, const char* text) : Field(name, absl::string_view(text)) {}
  Field(absl::string_view name, const std::string& text) : Field(name, absl::string_view(text)) {}
  Field(absl::string_view name, bool value) : name_(name), value_(value ? "true" : "false"), quoted_(false) {}
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>>>
  Field(absl::string_view name, Number value) : name_(name), value_(absl::StrCat(value)), quoted_(false) {}

  absl::string_view name() const { return name_; }
  const std::string& value() const { return value_; }
  bool quoted() const { return quoted_; }

 private:
  absl::string_view name_;
  std::string value_;
  bool quoted_;
};

void Log(Level level, absl::string_view event, std::initializer_list<Field> fields = {});

// Lines below `level` are dropped. Default kInfo.
void SetLogLevel(Level level);

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_LOG_H_
