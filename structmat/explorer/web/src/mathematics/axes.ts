/** The numbers of the survey that can be the axes of its chart. */

import { duration, grouped, short } from "@/text";
import type { SurveyRow } from "@/types";

export interface Axis {
  name: string;
  title: string;
  isLogarithmic: boolean;
  format(value: number): string;
  value(row: SurveyRow): number | null | undefined;
}

const whole = (value: number): string => (Number.isInteger(value) ? grouped(value) : short(value));

export const AXES: readonly Axis[] = [
  {
    name: "parameters",
    title: "parameters",
    isLogarithmic: true,
    format: whole,
    value: (row) => row.parameters,
  },
  {
    name: "dimension",
    title: "dimension",
    isLogarithmic: true,
    format: whole,
    value: (row) => row.dimension?.value ?? row.dimension?.lower,
  },
  {
    name: "depth",
    title: "stages",
    isLogarithmic: false,
    format: whole,
    value: (row) => row.depth,
  },
  {
    name: "flops",
    title: "operations",
    isLogarithmic: true,
    format: whole,
    value: (row) => row.flops,
  },
  {
    name: "mixing",
    title: "mixing",
    isLogarithmic: false,
    format: short,
    value: (row) => row.mixing,
  },
  {
    name: "seconds",
    title: "time per vector",
    isLogarithmic: true,
    format: duration,
    value: (row) => row.seconds,
  },
];

export const numberOf = (row: SurveyRow, axis: Axis): number | null => axis.value(row) ?? null;
