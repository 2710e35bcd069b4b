// What the tests may tell and ask the stand-in for cublasLt. Internal to the emulator.
#pragma once

namespace crnn::emulator {

extern bool no_cublaslt;       // there is no such library
extern bool refuse_epilogues;  // it supports none but the default one
extern int heuristics;         // how often it was asked for an algorithm

}  // namespace crnn::emulator
