#include "rpc/status.h"

#include <gtest/gtest.h>

#include <string>

namespace fluyt {
namespace {

TEST(ErrorTable, EveryCodeHasItsOwnStatus) {
  EXPECT_EQ(status_code(Code::kInvalidArgument), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status_code(Code::kNotFound), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status_code(Code::kAlreadyExists), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(status_code(Code::kFailedPrecondition), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status_code(Code::kPermissionDenied), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(status_code(Code::kUnauthenticated), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(status_code(Code::kResourceExhausted), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status_code(Code::kDeadlineExceeded), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(status_code(Code::kUnavailable), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status_code(Code::kUnimplemented), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status_code(Code::kAborted), grpc::StatusCode::ABORTED);
  EXPECT_EQ(status_code(Code::kCancelled), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(status_code(Code::kDataLoss), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(status_code(Code::kInternal), grpc::StatusCode::INTERNAL);
}

TEST(ErrorTable, TheSentenceComesAlong) {
  const grpc::Status status = to_status(Error(Code::kNotFound, "no such thing"));
  EXPECT_EQ(status.error_message(), "no such thing");
  EXPECT_TRUE(to_status(Result<>()).ok());
}

TEST(ErrorTable, ALongSentenceIsCutToWhatMetadataHolds) {
  const grpc::Status status = to_status(Error(Code::kInternal, std::string(10'000, 'x')));
  EXPECT_LT(3 * status.error_message().size(), 8192U);
  EXPECT_TRUE(status.error_message().ends_with("x..."));
}

}  // namespace
}  // namespace fluyt
