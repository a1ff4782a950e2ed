// Application is the database that a replay runs on: what is asked of it, and how it is written to.
//
// Two exist. Pagila is the film rental shop of the shared folder, with the operations of a real application's trace
// laid over it: each family of the trace is one of five endpoints, each of its tenants a country, each of its entities
// a row. Demo is the project's own workload, with operations drawn in the trace's proportions, for where that folder is
// absent.
//
// Errors:  std::exception (pqxx, YAML, files).
// Threads: Write on one thread at a time; the rest is immutable.
#ifndef SHADOWLINE_TESTS_PAGILA_APPLICATION_H_
#define SHADOWLINE_TESTS_PAGILA_APPLICATION_H_

#include <cstdint>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "shadowline/v1/cache.pb.h"
#include "shadowline/v1/read.pb.h"
#include "tests/support/private_servers.h"
#include "tests/support/trace.h"

namespace shadowline::pagila {

using Question = shadowline::v1::ReadRequest;

struct Operation {
  using Kind = support::Access::Kind;
  static constexpr Kind kRead = Kind::kRead;
  static constexpr Kind kUpdate = Kind::kUpdate;
  static constexpr Kind kDelete = Kind::kDelete;
  static constexpr Kind kBulkUpdate = Kind::kBulkUpdate;

  Kind kind = kRead;
  size_t question =
      0;  // What is read; or whose data is written. A bulk update writes all of that endpoint's, in the tenant.
};

class Application {
 public:
  virtual ~Application() = default;

  virtual const char* name() const = 0;
  // Path of its catalog.
  virtual std::string catalog() const = 0;
  // Writes, and says what has to be invalidated once it is committed. `nth` makes the write unlike all others.
  virtual std::vector<shadowline::v1::InvalidateRequest> Write(pqxx::work& work, Operation::Kind kind,
                                                               const Question& question, int64_t nth) = 0;

  const std::string& database() const { return database_; }
  const std::vector<Question>& questions() const { return questions_; }
  const std::vector<Operation>& operations() const { return operations_; }

 protected:
  std::string database_;  // libpq connection string
  std::vector<Question> questions_;
  std::vector<Operation> operations_;
};

// Null where the shared folder is absent: SHADOWLINE_SHARED, or `shared` beside the source tree. At most `most`
// operations.
std::unique_ptr<Application> LoadPagila(support::PrivatePostgres* postgres, size_t most);
std::unique_ptr<Application> LoadDemo(support::PrivatePostgres* postgres, size_t most, uint64_t seed);

// The value of one parameter, as text.
std::string ParameterText(const Question& question, const std::string& name);

}  // namespace shadowline::pagila

#endif  // SHADOWLINE_TESTS_PAGILA_APPLICATION_H_
