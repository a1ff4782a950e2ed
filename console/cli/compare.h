// `shadowline compare`: the comparison that verification uses, as a command.
//
// Rules are a JSON object with any of
//   "ignore": ["$.at", "/lines/*/id"]
//   "arrays": "multiset" | {"$.tags": "multiset", "$.lines": "keyed:id"}
//   "tolerance": "0.01" | {"absolute": "0.01", "relative": "1e-6"} | {"$.price": ...} | [{"path": "$.price",
//   "absolute": ...}]
//   "instants": ["$.at"], "null_is_absent": ["$.note"], "extensible": ["$.meta"]
// Paths are JSONPaths or JSON Pointers (docs/compare.md, Rules). Where a list of paths is expected one path will do,
// and `true` means everywhere. Anything else in it is an error, and so are rules that contradict each other. Numbers
// may be written as numbers or as texts.
#ifndef SHADOWLINE_CONSOLE_CLI_COMPARE_H_
#define SHADOWLINE_CONSOLE_CLI_COMPARE_H_

#include <istream>
#include <ostream>
#include <string>

namespace shadowline::console {

// Compares two files and writes what differs for people, one difference a line. `rules_json` may be empty: exactly.
// Returns 0: the same (or excused, which is said); 1: they differ; 2: a file cannot be read or is not JSON, or the
// rules are not understood (on `err`).
int CompareFiles(const std::string& path_a, const std::string& path_b, const std::string& rules_json, std::ostream& out,
                 std::ostream& err);

// Writes the JSON Patch (RFC 6902) that turns the first file into the second; "[]" where they are the same under the
// rules. Returns as CompareFiles.
int PatchFiles(const std::string& path_a, const std::string& path_b, const std::string& rules_json, std::ostream& out,
               std::ostream& err);
// The same for two files that are serialized messages of the type `message`, compared by field (docs/compare.md,
// Messages). `descriptors` is a file with a FileDescriptorSet. A second file that is no such message differs: kind
// shape.
int CompareMessages(const std::string& path_a, const std::string& path_b, const std::string& descriptors,
                    const std::string& message, const std::string& rules_json, std::ostream& out, std::ostream& err);

// One line out for each line in that is not blank, in the same order, whatever it holds.
//   in   {"id": 7, "a": "{\"x\":1}", "b": "{\"x\":2}", "rules": {...}}
//   out {"id":7,"verdict":"differ","differences":[{"pointer":"/x","kind":"value","a":"1","b":"2"}],"fingerprint":"..."}
// `a` and `b` are JSON texts as strings (so that what is no JSON can be asked about), or JSON values that are no
// strings; they may be called `control` and `candidate`, and are then called so in the differences. `id` is any JSON
// value; `rules` may be absent. `verdict` is equal, differ or error (the line, the rules or a text cannot be
// understood; "error" says why). A `b` that is JSON, but has a duplicate member or a lone surrogate, differs: kind
// shape. "a" and "b" of a difference are JSON texts, cut at 512 bytes; null where that side has nothing.
// "differences_total" is there where more were found than are shown, "fingerprint" where they differ (equal for
// differences of one kind, whatever the values and the indices), "excuses" where rules were needed (rule -> times
// used). Returns 0; 2 when the output cannot be written.
int CompareJsonLines(std::istream& in, std::ostream& out);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_COMPARE_H_
