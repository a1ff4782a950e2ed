#include "diff/compare/patch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "diff/compare/json.h"

namespace shadowline::diff {
namespace {

class PatchWriter {
 public:
  std::string Write(const Json& control, const Json& candidate) {
    patch_ = "[";
    Turn(control, candidate);
    patch_.push_back(']');
    return std::move(patch_);
  }

  bool full() const { return patch_.size() > kMaxPatchBytes; }

 private:
  // Operations take effect one after the other, so each is written for what those before it have left.
  void Turn(const Json& control, const Json& candidate) {
    if (full() || control.digest == candidate.digest) return;
    if (control.type == Json::Type::kObject && candidate.type == Json::Type::kObject) {
      TurnObject(control, candidate);
    } else if (control.type == Json::Type::kArray && candidate.type == Json::Type::kArray) {
      TurnArray(control, candidate);
    } else {
      Append("replace", &candidate);
    }
  }

  void TurnObject(const Json& control, const Json& candidate) {
    for (const Json* member : control.SortedMembers()) {
      const Json* other = candidate.Find(member->name);
      const size_t parent = Enter(member->name);
      if (other == nullptr) {
        Append("remove", nullptr);
      } else {
        Turn(*member, *other);
      }
      pointer_.resize(parent);
    }
    for (const Json* member : candidate.SortedMembers()) {
      if (control.Find(member->name) != nullptr) continue;
      const size_t parent = Enter(member->name);
      Append("add", member);
      pointer_.resize(parent);
    }
  }

  // What both begin and end with stays; between, items are turned one by one, and then taken out or put in.
  void TurnArray(const Json& control, const Json& candidate) {
    const size_t overlap = std::min(control.size, candidate.size);
    const auto same = [](const Json& a, const Json& b) { return a.digest == b.digest; };
    size_t first = 0;
    while (first < overlap && same(control.children[first], candidate.children[first])) ++first;
    size_t suffix = 0;
    while (suffix < overlap - first &&
           same(control.children[control.size - 1 - suffix], candidate.children[candidate.size - 1 - suffix])) {
      ++suffix;
    }
    const size_t both = overlap - suffix;
    for (size_t i = first; i < both; ++i) {
      AtItem(i, [&] { Turn(control.children[i], candidate.children[i]); });
    }
    for (size_t i = control.size - suffix; i-- > both;) {
      AtItem(i, [&] { Append("remove", nullptr); });
    }
    for (size_t i = both; i < candidate.size - suffix; ++i) {
      AtItem(i, [&] { Append("add", &candidate.children[i]); });
    }
  }

  template <typename Do>
  void AtItem(size_t index, Do what) {
    if (full()) return;
    const size_t parent = Enter(absl::StrCat(index));
    what();
    pointer_.resize(parent);
  }

  // Returns the size of the pointer that was.
  size_t Enter(absl::string_view name) {
    const size_t size = pointer_.size();
    pointer_.push_back('/');
    for (const char c : name) {
      if (c == '~') {
        pointer_.append("~0");
      } else if (c == '/') {
        pointer_.append("~1");
      } else {
        pointer_.push_back(c);
      }
    }
    return size;
  }

  void Append(absl::string_view operation, const Json* value) {
    if (full()) return;
    absl::StrAppend(&patch_, patch_.size() > 1 ? "," : "", "{\"op\":\"", operation, "\",\"path\":");
    AppendQuoted(&patch_, pointer_);
    if (value != nullptr) absl::StrAppend(&patch_, ",\"value\":", value->text);
    patch_.push_back('}');
  }

  std::string patch_;
  std::string pointer_;  // To where the walk is, unquoted.
};

}  // namespace

absl::StatusOr<std::string> MakePatch(absl::string_view control, absl::string_view candidate,
                                      const CompiledRules& rules) {
  JsonReader control_reader, candidate_reader;
  const absl::StatusOr<const Json*> a = control_reader.Read(control);
  if (!a.ok()) return base::Annotate(a.status(), "the control cannot be compared");
  const absl::StatusOr<const Json*> b = candidate_reader.ReadBeside(candidate, control, **a);
  if (!b.ok()) return base::Annotate(b.status(), "the candidate cannot be compared");
  const Comparison comparison = Compare({true, control}, {true, candidate}, rules);
  if (comparison.verdict == Comparison::Verdict::kError) return absl::ResourceExhaustedError(comparison.error);
  if (comparison.verdict != Comparison::Verdict::kDiffer) return "[]";
  PatchWriter writer;
  std::string patch = writer.Write(**a, **b);
  if (patch.size() > kMaxPatchBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the patch would be larger than ", kMaxPatchBytes, " bytes"));
  }
  return patch;
}

}  // namespace shadowline::diff
