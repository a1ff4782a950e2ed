// Flight lets concurrent callers of one key share one call (single-flight), across executors.
//
//   if (flight.Join(key, executor, [](const Result& r) { ... })) { Load(..., [&](r) { flight.Land(key, r); }); }
//
// Threads: thread-safe. Limits: at most `waiters_max` callers wait for one key; a caller beyond that loads by itself.
#ifndef SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_
#define SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_

namespace shadowline::cache {

class Flight;

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_
