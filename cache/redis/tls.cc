#include "cache/redis/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace shadowline::cache {
namespace {

std::string LastError() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown error" : reason;
}

absl::Status Refused(absl::string_view file, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("\"", file, "\" ", what, " (", LastError(), ")"));
}

}  // namespace

TlsContext::TlsContext(std::string server_name)
    : context_(SSL_CTX_new(TLS_client_method())), server_name_(std::move(server_name)) {
  SSL_CTX_set_min_proto_version(context_, TLS1_2_VERSION);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

absl::StatusOr<std::shared_ptr<const TlsContext>> TlsContext::Load(const Options& options) {
  ERR_clear_error();
  auto loaded = std::make_shared<TlsContext>(options.server_name);
  SSL_CTX* const context = loaded->context_;
  if (options.ca.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1) return Refused("the system's", "authorities cannot be read");
  } else if (SSL_CTX_load_verify_locations(context, options.ca.c_str(), nullptr) != 1) {
    return Refused(options.ca, "holds no certificate that can be read; expected one or more in PEM");
  }
  if (!options.certificate.empty()) {
    if (SSL_CTX_use_certificate_chain_file(context, options.certificate.c_str()) != 1) {
      return Refused(options.certificate, "holds no certificate that can be read; expected a chain in PEM");
    }
    if (SSL_CTX_use_PrivateKey_file(context, options.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
      return Refused(options.key, "holds no key for the certificate; expected it in PEM, without a passphrase");
    }
  }
  return loaded;
}

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context, const std::string& host)
    : context_(std::move(context)), session_(SSL_new(context_->context_)) {
  const std::string& name = context_->server_name_.empty() ? host : context_->server_name_;
  SSL_set_bio(session_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(session_);
  X509_VERIFY_PARAM* const expected = SSL_get0_param(session_);
  if (X509_VERIFY_PARAM_set1_ip_asc(expected, name.c_str()) == 1) return;
  ERR_clear_error();
  SSL_set_hostflags(session_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (name.empty() || SSL_set1_host(session_, name.c_str()) != 1 ||
      SSL_set_tlsext_host_name(session_, name.c_str()) != 1) {
    refused_ = absl::UnavailableError("TLS: there is no name that a certificate could be for");
  }
}

TlsSession::~TlsSession() { SSL_free(session_); }

absl::Status TlsSession::Outcome(int result) const {
  switch (SSL_get_error(session_, result)) {
    case SSL_ERROR_NONE:
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return absl::OkStatus();
    case SSL_ERROR_ZERO_RETURN:
      return absl::UnavailableError("the connection was closed");
    default:
      break;
  }
  const long verified = SSL_get_verify_result(session_);  // NOLINT: OpenSSL's type
  const std::string error = LastError();
  return absl::UnavailableError(
      absl::StrCat("TLS: ", verified == X509_V_OK ? error.c_str() : X509_verify_cert_error_string(verified)));
}

absl::Status TlsSession::Seal(std::string* plain, std::string* sealed) {
  if (!refused_.ok()) return refused_;
  ERR_clear_error();
  absl::Status status;
  if (SSL_is_init_finished(session_) == 0) status = Outcome(SSL_do_handshake(session_));
  if (status.ok() && SSL_is_init_finished(session_) == 1 && !plain->empty()) {
    size_t written = 0;  // All of it: the buffer behind the session grows.
    status = Outcome(SSL_write_ex(session_, plain->data(), plain->size(), &written));
    plain->clear();
  }
  char bytes[16 << 10];
  int got = 0;
  while ((got = BIO_read(SSL_get_wbio(session_), bytes, sizeof(bytes))) > 0) sealed->append(bytes, got);
  return status;
}

absl::Status TlsSession::Open(absl::string_view sealed, std::string* plain) {
  ERR_clear_error();
  BIO_write(SSL_get_rbio(session_), sealed.data(), static_cast<int>(sealed.size()));
  char bytes[16 << 10];
  while (true) {
    size_t got = 0;
    const int result = SSL_read_ex(session_, bytes, sizeof(bytes), &got);
    if (result != 1) return Outcome(result);
    plain->append(bytes, got);
  }
}

}  // namespace shadowline::cache
