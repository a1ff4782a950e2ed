// What a read is named by, before anything is looked up.
//
// Pure. kInvalidArgument begins with the field.
#ifndef SHADOWLINE_SERVER_READ_REQUEST_NAMES_H_
#define SHADOWLINE_SERVER_READ_REQUEST_NAMES_H_

#include <cstddef>

#include "absl/status/status.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::server {

inline constexpr size_t kNameBytesMax = 128;

inline absl::Status CheckNames(const shadowline::v1::ReadRequest& request) {
  if (request.tenant().empty())
    return absl::InvalidArgumentError("tenant: missing; name the tenant whose data is read");
  if (request.endpoint().empty()) return absl::InvalidArgumentError("endpoint: missing; expected family/endpoint");
  if (request.tenant().size() > kNameBytesMax) return absl::InvalidArgumentError("tenant: longer than 128 bytes");
  if (request.endpoint().size() > kNameBytesMax) return absl::InvalidArgumentError("endpoint: longer than 128 bytes");
  if (request.request_id().size() > kNameBytesMax) {
    return absl::InvalidArgumentError("request_id: longer than 128 bytes");
  }
  return absl::OkStatus();
}

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_REQUEST_NAMES_H_
