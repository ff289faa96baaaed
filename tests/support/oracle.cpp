#include "tests/support/oracle.h"

#include <Eigen/Dense>

namespace equisweep::testing::oracle {

void map_singular_values(const double* x, std::int64_t m, std::int64_t n, const SpectralMap& f, double* result) {
  const Eigen::MatrixXd matrix = Eigen::Map<const Eigen::MatrixXd>(x, n, m).transpose();
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(matrix, Eigen::ComputeThinU | Eigen::ComputeThinV);
  Eigen::VectorXd s = svd.singularValues();
  const double largest = s(0);
  for (Eigen::Index i = 0; i < s.size(); ++i) s(i) = f(s(i), largest, matrix.norm());
  const Eigen::MatrixXd mapped = svd.matrixU() * s.asDiagonal() * svd.matrixV().transpose();
  Eigen::Map<Eigen::MatrixXd>(result, n, m) = mapped.transpose();
}

double largest_singular_value(const double* x, std::int64_t m, std::int64_t n) {
  const Eigen::MatrixXd matrix = Eigen::Map<const Eigen::MatrixXd>(x, n, m);  // the transpose has the same ones
  return Eigen::JacobiSVD<Eigen::MatrixXd>(matrix).singularValues()(0);
}

void least_squares(const double* a, std::int64_t m, std::int64_t n, const double* b, double* x) {
  const Eigen::MatrixXd matrix = Eigen::Map<const Eigen::MatrixXd>(a, n, m).transpose();
  Eigen::Map<Eigen::VectorXd>(x, n) = matrix.colPivHouseholderQr().solve(Eigen::Map<const Eigen::VectorXd>(b, m));
}

void orthonormal_columns(const double* x, std::int64_t m, std::int64_t k, double* q) {
  const Eigen::MatrixXd matrix = Eigen::Map<const Eigen::MatrixXd>(x, k, m).transpose();
  const Eigen::MatrixXd basis =
      Eigen::HouseholderQR<Eigen::MatrixXd>(matrix).householderQ() * Eigen::MatrixXd::Identity(m, k);
  Eigen::Map<Eigen::MatrixXd>(q, k, m) = basis.transpose();
}

}  // namespace equisweep::testing::oracle
