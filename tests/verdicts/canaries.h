// Canaries are texts that occur nowhere else (bugs.h). Shadowline is shown them in rows, parameters, tags, keys and in
// what applications report, and may keep them nowhere but in cached answers.
//
// Errors: std::exception where what has to come of it does not: a search proves nothing then.
#ifndef SHADOWLINE_TESTS_VERDICTS_CANARIES_H_
#define SHADOWLINE_TESTS_VERDICTS_CANARIES_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tests/verdicts/world.h"

namespace shadowline::verdicts {

// Parts of the schema and of the catalog's sections, for what no bug shows.
inline constexpr char kCanaryTenant[] = "canary";
std::string CanarySchema();
std::string CanaryFamilies();
std::string CanaryCapture();

// Reads, writes and invalidates by a tag that is made of a canary, until a divergence of such a key is confirmed; and
// reports observed reads whose answers and versions hold it, one that is confirmed and one that is no JSON among them.
// What came of it, for people.
std::string ShowCanaries(World* world);

// How often one is found in Shadowline's tables, in Redis apart from cached answers, in logs and in metrics, by place.
nlohmann::json FindCanaries(World* world, uint64_t* found);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_CANARIES_H_
