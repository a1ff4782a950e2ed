// YAML -> message, by reflection: the schema of a catalog document is its protobuf message and nothing else.
#ifndef SHADOWLINE_CACHE_CATALOG_CONVERT_H_
#define SHADOWLINE_CACHE_CATALOG_CONVERT_H_

#include <map>
#include <string>

#include "cache/catalog/findings.h"
#include "cache/catalog/yaml.h"
#include "google/protobuf/message.h"

namespace shadowline::cache {

// Fills `message` from `node`. Unknown fields, wrong types and empty values are findings; the rest is converted
// nevertheless. `positions` gets the place of every field by its path.
void ConvertYaml(const YamlNode& node, google::protobuf::Message* message, std::map<std::string, Position>* positions,
                 Findings* findings);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_CONVERT_H_
