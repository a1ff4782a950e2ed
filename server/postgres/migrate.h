// Brings Shadowline's own schema in PostgreSQL up to this program's version.
#ifndef SHADOWLINE_SERVER_POSTGRES_MIGRATE_H_
#define SHADOWLINE_SERVER_POSTGRES_MIGRATE_H_

#include "absl/status/status.h"
#include "base/postgres/session.h"

namespace shadowline::server {

// Applies what is missing, in one transaction under a lock, so that replicas may start together. A schema that is newer
// than this program is left alone and refused: kFailedPrecondition names both versions. kUnavailable: try again.
absl::Status Migrate(base::PostgresSessions* sessions);

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_POSTGRES_MIGRATE_H_
