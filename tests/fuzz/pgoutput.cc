// Frames and messages of PostgreSQL's replication stream: what is decoded points into what was sent.
#include "cache/capture/pgoutput.h"

#include <functional>

#include "tests/fuzz/check.h"

namespace shadowline::cache {
namespace {

void CheckRow(const std::optional<Row>& row, absl::string_view message) {
  if (!row.has_value()) return;
  for (const Cell& cell : row->cells) {
    FUZZ_CHECK(cell.kind == Cell::Kind::kText || cell.text.empty());
    if (cell.text.empty()) continue;
    FUZZ_CHECK(!std::less<>()(cell.text.data(), message.data()));
    FUZZ_CHECK(!std::less<>()(message.data() + message.size(), cell.text.data() + cell.text.size()));
  }
}

void FuzzMessage(absl::string_view message) {
  const absl::StatusOr<Event> event = DecodeEvent(message);
  FUZZ_CHECK(event.ok() || absl::IsInvalidArgument(event.status()));
  if (!event.ok()) return;
  if (const auto* change = std::get_if<Change>(&*event)) {
    CheckRow(change->before, message);
    CheckRow(change->after, message);
    FUZZ_CHECK((change->kind == Change::Kind::kDelete ? change->before : change->after).has_value());
  }
}

}  // namespace
}  // namespace shadowline::cache

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shadowline::cache;
  const absl::string_view bytes = shadowline::fuzz::Text(data, size);
  FuzzMessage(bytes);
  const absl::StatusOr<Frame> frame = DecodeFrame(bytes);
  FUZZ_CHECK(frame.ok() || absl::IsInvalidArgument(frame.status()));
  if (!frame.ok()) return 0;
  if (const auto* wal = std::get_if<WalData>(&*frame)) FuzzMessage(wal->message);
  return 0;
}
