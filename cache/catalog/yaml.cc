#include "cache/catalog/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "cache/key/text.h"

namespace shadowline::cache {
namespace {

Position At(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

absl::Status Refuse(const Position& position, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(position.line, ":", position.column, ": ", what));
}

// Ends the parser's work; carries what is to be reported. It does not leave this file.
struct Refusal {
  absl::Status status;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  std::shared_ptr<const YamlNode> root() const { return root_; }

  void OnDocumentStart(const YAML::Mark& mark) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Leaf(NewNode(YamlNode::Kind::kNull, mark), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckTag(mark, tag);
    auto node = NewNode(YamlNode::Kind::kScalar, mark);
    node->scalar = value;
    node->quoted = tag == "!";
    Leaf(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    // An anchor is known once its node is complete, so that no tree contains itself.
    if (found == anchors_.end()) throw Refusal{Refuse(At(mark), "an alias inside of what it stands for")};
    Add(found->second, At(mark), found->second->weight);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    Open(YamlNode::Kind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    Open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct OpenNode {
    std::shared_ptr<YamlNode> node;
    YAML::anchor_t anchor;
    std::shared_ptr<const YamlNode> key;  // Of a map: waits for its value.
    std::set<std::string> keys;
  };

  static std::shared_ptr<YamlNode> NewNode(YamlNode::Kind kind, const YAML::Mark& mark) {
    auto node = std::make_shared<YamlNode>();
    node->kind = kind;
    node->position = At(mark);
    return node;
  }

  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    // "?" and "!" are what the parser gives to plain and to quoted nodes without a tag of their own.
    if (!tag.empty() && tag != "?" && tag != "!")
      throw Refusal{Refuse(At(mark), "YAML tags are not accepted; remove it")};
  }

  void Leaf(std::shared_ptr<YamlNode> node, YAML::anchor_t anchor) {
    node->weight += node->scalar.size() / kYamlBytesPerWeight;
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    Add(node, node->position, node->weight);
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    CheckTag(mark, tag);
    if (open_.size() >= kMaxYamlDepth) {
      throw Refusal{Refuse(At(mark), absl::StrCat("nested deeper than ", kMaxYamlDepth, " levels"))};
    }
    open_.push_back({NewNode(kind, mark), anchor, nullptr, {}});
  }

  void Close() {
    OpenNode closed = std::move(open_.back());
    open_.pop_back();
    if (closed.anchor != YAML::NullAnchor) anchors_[closed.anchor] = closed.node;
    // What is inside was charged as it came.
    Add(closed.node, closed.node->position, 1);
  }

  void Add(std::shared_ptr<const YamlNode> node, const Position& position, size_t charge) {
    total_ += charge;
    if (total_ > kMaxYamlWeight) {
      throw Refusal{Refuse(position, absl::StrCat("more than ", kMaxYamlWeight, " nodes, aliases followed"))};
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& parent = open_.back();
    parent.node->weight += node->weight;
    if (parent.node->kind == YamlNode::Kind::kSequence) {
      parent.node->sequence.push_back(std::move(node));
    } else if (parent.key == nullptr) {
      if (node->kind != YamlNode::Kind::kScalar) throw Refusal{Refuse(position, "a key must be a name")};
      if (!parent.keys.insert(node->scalar).second) {
        throw Refusal{Refuse(position, absl::StrCat("`", node->scalar, "` is repeated; expected each key once"))};
      }
      parent.key = std::move(node);
    } else {
      parent.node->map.emplace_back(std::move(parent.key), std::move(node));
      parent.key = nullptr;
    }
  }

  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, std::shared_ptr<const YamlNode>> anchors_;
  std::shared_ptr<const YamlNode> root_;
  size_t total_ = 0;
};

// Where brackets are open beyond kMaxYamlOpen. No document of a person has so many, its statements and comments
// included.
std::optional<Position> TooManyOpen(absl::string_view text) {
  Position position;
  size_t open = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') {
      if (++open > kMaxYamlOpen) return position;
    } else if (open > 0 && (c == ']' || c == '}')) {
      --open;
    }
    if (c == '\n') {
      ++position.line;
      position.column = 1;
    } else {
      ++position.column;
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const YamlNode>> ReadYaml(absl::string_view text) {
  if (text.size() > kMaxYamlBytes) {
    return Refuse({},
                  absl::StrCat("the document has ", text.size(), " bytes; at most ", kMaxYamlBytes, " are accepted"));
  }
  if (!IsText(text)) return Refuse({}, "the document is not valid UTF-8 without NUL");
  if (const std::optional<Position> at = TooManyOpen(text)) {
    return Refuse(*at, absl::StrCat("nested deeper than ", kMaxYamlDepth, " levels: more than ", kMaxYamlOpen,
                                    " brackets and braces are open"));
  }
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    if (!parser.HandleNextDocument(builder) || builder.root() == nullptr) {
      return Refuse({}, "the document is empty; expected a catalog, beginning with `version: 1`");
    }
    TreeBuilder second;
    if (parser.HandleNextDocument(second)) {
      return Refuse(second.root() == nullptr ? Position{} : second.root()->position, "a second document; expected one");
    }
    return builder.root();
  } catch (const Refusal& refusal) {
    return refusal.status;
  } catch (const YAML::Exception& error) {
    return Refuse(At(error.mark), absl::StrCat("not YAML: ", error.msg));
  } catch (const std::exception& error) {
    return Refuse({}, absl::StrCat("not YAML: ", error.what()));
  }
}

}  // namespace shadowline::cache
