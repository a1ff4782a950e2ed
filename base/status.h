// Status helpers that Debian's Abseil does not have yet.
#ifndef SHADOWLINE_BASE_STATUS_H_
#define SHADOWLINE_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace shadowline::base {

// The same code, with "`prefix`: " before the message. OK stays OK.
inline absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, ": ", status.message()));
}

}  // namespace shadowline::base

#define SHADOWLINE_CONCAT_INNER_(a, b) a##b
#define SHADOWLINE_CONCAT_(a, b) SHADOWLINE_CONCAT_INNER_(a, b)

// Returns the status of `expression` from the enclosing function unless it is OK.
#define RETURN_IF_ERROR(expression)                                   \
  do {                                                                \
    if (::absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto value, MakeStatusOr()): unwraps, or returns the status.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_IMPL_(SHADOWLINE_CONCAT_(status_or_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_IMPL_(temporary, declaration, expression) \
  auto temporary = (expression);                                   \
  if (!temporary.ok()) return std::move(temporary).status();       \
  declaration = *std::move(temporary)

#endif  // SHADOWLINE_BASE_STATUS_H_
