// The recurrent cells, a row at a time, as loops over the formulas of csrc/math.

namespace {

template <class T>
void gru_forward(const T* gates_x, const T* gates_h, const T* h_previous, const T*, T* h, T*, T* saved, int64_t hidden,
                 int64_t begin, int64_t end) {
  const T *x_r = gates_x, *x_z = x_r + hidden, *x_n = x_z + hidden;
  const T *h_r = gates_h, *h_z = h_r + hidden, *h_n = h_z + hidden;
#pragma omp simd
  for (int64_t j = begin; j < end; j++) {
    auto a = math::gru_gates(x_r[j], x_z[j], x_n[j], h_r[j], h_z[j], h_n[j]);
    T state = math::gru_state(a.z, a.n, h_previous[j]);
    if (saved) {
      saved[j] = a.r;
      saved[hidden + j] = a.z;
      saved[2 * hidden + j] = a.n;
      saved[3 * hidden + j] = h_n[j];
    }
    h[j] = state;
  }
}

template <class T>
void gru_backward(const T* saved, const T* h_previous, const T*, const T*, T* grad_h, T*, T* grad_gates,
                  T* grad_gates_h, int64_t hidden, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t j = begin; j < end; j++) {
    auto g = math::gru_backward(saved[j], saved[hidden + j], saved[2 * hidden + j], saved[3 * hidden + j],
                                h_previous[j], grad_h[j]);
    grad_gates[j] = grad_gates_h[j] = g.r;
    grad_gates[hidden + j] = grad_gates_h[hidden + j] = g.z;
    grad_gates[2 * hidden + j] = g.n;
    grad_gates[3 * hidden + j] = grad_gates_h[2 * hidden + j] = g.h_n;
    grad_h[j] = g.h;
  }
}

template <class T>
void lstm_forward(const T* gates_x, const T* gates_h, const T*, const T* c_previous, T* h, T* c, T* saved,
                  int64_t hidden, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t j = begin; j < end; j++) {
    auto a = math::lstm_gates(gates_x[j] + gates_h[j], gates_x[hidden + j] + gates_h[hidden + j],
                              gates_x[2 * hidden + j] + gates_h[2 * hidden + j],
                              gates_x[3 * hidden + j] + gates_h[3 * hidden + j]);
    T cell = math::lstm_cell(a.i, a.f, a.g, c_previous[j]);
    if (saved) {
      saved[j] = a.i;
      saved[hidden + j] = a.f;
      saved[2 * hidden + j] = a.g;
      saved[3 * hidden + j] = a.o;
    }
    c[j] = cell;
    h[j] = math::lstm_state(a.o, cell);
  }
}

template <class T>
void lstm_backward(const T* saved, const T*, const T* c_previous, const T* c, T* grad_h, T* grad_c, T* grad_gates,
                   T* grad_gates_h, int64_t hidden, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t j = begin; j < end; j++) {
    auto g = math::lstm_backward(saved[j], saved[hidden + j], saved[2 * hidden + j], saved[3 * hidden + j],
                                 c_previous[j], c[j], grad_h[j], grad_c[j]);
    grad_gates[j] = grad_gates_h[j] = g.i;
    grad_gates[hidden + j] = grad_gates_h[hidden + j] = g.f;
    grad_gates[2 * hidden + j] = grad_gates_h[2 * hidden + j] = g.g;
    grad_gates[3 * hidden + j] = grad_gates_h[3 * hidden + j] = g.o;
    grad_h[j] = T(0);  // h reaches the loss through the gates alone
    grad_c[j] = g.c;
  }
}

template <class T>
void tanh_rows(T* x, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) x[j] = math::tanh(x[j]);
}

template <class T>
void tanh_backward(T* grad, const T* y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) grad[j] *= T(1) - y[j] * y[j];
}

template <class T>
void add(T* to, const T* from, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) to[j] += from[j];
}

}  // namespace
