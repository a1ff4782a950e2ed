#include "console/cli/cache_view.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace shadowline::console {
namespace {

using v1::InspectResponse;

Cell Headline(InspectResponse::State state) {
  switch (state) {
    case InspectResponse::STATE_ABSENT:
      return {"nothing", Color::kYellow};
    case InspectResponse::STATE_ANSWER:
      return {"a value that would be an answer", Color::kGreen};
    case InspectResponse::STATE_OUTDATED:
      return {"a value that is no answer any more", Color::kYellow};
    case InspectResponse::STATE_GARBAGE:
      return {"bytes that are no value", Color::kRed};
    default:
      return {"unknown"};
  }
}

std::string Bytes(uint64_t count) { return Plural(count, "byte"); }

}  // namespace

std::string InspectionText(const InspectResponse& inspection, const Style& style) {
  const Cell headline = Headline(inspection.state());
  std::string text = Paint(headline.text, headline.color, style);
  if (!inspection.why().empty()) absl::StrAppend(&text, ": ", Printable(inspection.why()));
  absl::StrAppend(&text, "\n\n");

  std::vector<std::pair<std::string, std::string>> lines = {{"key", Printable(inspection.key())}};
  if (inspection.state() == InspectResponse::STATE_ANSWER || inspection.state() == InspectResponse::STATE_OUTDATED) {
    lines.emplace_back("loaded",
                       absl::StrCat(When(inspection.loaded_at_us(), style), " by fill ", Printable(inspection.fill()),
                                    " under catalog revision ", Count(inspection.catalog_revision())));
    lines.emplace_back("snapshot", Printable(inspection.snapshot()));
    lines.emplace_back("answer", inspection.found() ? absl::StrCat(Bytes(inspection.body_bytes()), ", etag ",
                                                                   absl::StrFormat("%016x", inspection.etag()))
                                                    : "there is no such row");
  }
  if (inspection.state() != InspectResponse::STATE_ABSENT) {
    lines.emplace_back(
        "stored", absl::StrCat(Bytes(inspection.stored_bytes()),
                               inspection.ttl_us() > 0
                                   ? absl::StrCat(", for ", Human(absl::Microseconds(inspection.ttl_us())), " more")
                                   : ""));
  }
  for (const auto& [name, value] : lines) absl::StrAppend(&text, absl::StrFormat("%-8s", name), "  ", value, "\n");

  if (inspection.fences().empty()) return text;
  Table table({{"TAG"}, {"FENCE"}, {"OF THE VALUE"}, {"INVALIDATED"}, {"WAITS FOR"}});
  for (const v1::InspectedFence& fence : inspection.fences()) {
    table.AddRow(
        {fence.tag(), fence.stands() ? Cell("stands") : Cell("none", Color::kYellow),
         fence.of_value() ? Cell("yes", Color::kGreen) : Cell("no", Color::kYellow),
         When(fence.invalidated_at_us(), style),
         fence.transactions().empty() ? "-" : absl::StrCat("transaction ", absl::StrJoin(fence.transactions(), ", "))});
  }
  absl::StrAppend(&text, "\n", table.Render(style));
  return text;
}

}  // namespace shadowline::console
